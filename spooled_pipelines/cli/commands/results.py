"""`results BATCH`: what came of a batch's jobs, as a table."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from spooled_pipelines.cli.exit_codes import UsageError
from spooled_pipelines.cli.options import Address, ApiKey, AsJson, Profile, connected
from spooled_pipelines.cli.output import for_a_reader
from spooled_pipelines.cli.table_output import TableFormat, show, write_rows


def results(
    batch: Annotated[str, typer.Argument(help="The batch's id, as `enqueue` printed it.")],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="A file or URI to write: .parquet, .csv, .jsonl or .arrow."
        ),
    ] = None,
    table_format: Annotated[
        TableFormat | None,
        typer.Option(
            "--format",
            show_default="table on a terminal, else jsonl",
            help="What to write to standard output.",
        ),
    ] = None,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """The jobs of BATCH with their results: a table on a terminal, JSON lines elsewhere."""
    kind = _kind(table_format, as_json=as_json, to_file=output is not None)
    if output is not None:
        from spooled_pipelines.batch.writers import check_sink

        check_sink(output)
    with connected(address, api_key, profile) as client, for_a_reader():
        found = client.batch(batch)
        if output is not None:
            rows = found.write_results(output)
            print(f"{rows:,} rows written to {output}", file=sys.stderr)
        elif kind is TableFormat.TABLE:
            show(found.results())
        else:
            write_rows(found.results_reader(), sys.stdout.buffer, kind)


def _kind(given: TableFormat | None, *, as_json: bool, to_file: bool) -> TableFormat:
    if given is not None and (to_file or as_json):
        raise UsageError("--format is for standard output, and neither for -o nor with --json")
    terminal = sys.stdout.isatty()
    if given in (TableFormat.PARQUET, TableFormat.ARROW) and terminal:
        raise UsageError(
            f"--format {given.value} is nothing to look at: send it to a file or a program, or use "
            f"-o FILE.{given.value}"
        )
    if as_json:
        return TableFormat.JSONL
    return given or (TableFormat.TABLE if terminal else TableFormat.JSONL)
