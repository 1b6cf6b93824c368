"""`results BATCH`: what came of a batch's jobs, as a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from spooled_pipelines.cli.codes import UsageError
from spooled_pipelines.cli.options import Address, ApiKey, AsJson, Profile, connected
from spooled_pipelines.cli.output import for_a_reader
from spooled_pipelines.cli.tables import TableFormat, check_output, show, write_file, write_stream


def results(
    batch: Annotated[str, typer.Argument(help="The batch's id, as `enqueue` printed it.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file to write: .parquet, .csv, .jsonl or .arrow."),
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
    if output is not None:
        check_output(output)
    kind = _kind(table_format, as_json=as_json, to_file=output is not None)
    with connected(address, api_key, profile) as client:
        table = client.batch(batch).results()
    if output is not None:
        write_file(table, output)
        print(f"{table.num_rows:,} rows written to {output}", file=sys.stderr)
        return
    with for_a_reader():
        if kind is TableFormat.TABLE:
            show(table)
        else:
            write_stream(table, sys.stdout.buffer, kind)


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
