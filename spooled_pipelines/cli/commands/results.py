"""`results BATCH`: the jobs of a batch with their results, as a table."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from spooled_pipelines.cli.exit_codes import UsageError
from spooled_pipelines.cli.options import (
    Address,
    ApiKey,
    AsJson,
    BatchId,
    Profile,
    batch_of,
    connected,
)
from spooled_pipelines.cli.output import ignore_broken_pipe, say
from spooled_pipelines.cli.table_output import TableFormat, print_table, write_rows


def results(
    batch: BatchId,
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
    formulas: Annotated[
        bool,
        typer.Option(
            "--formulas",
            help="Leave texts in CSV that a spreadsheet would compute, such as =1+1, as they are; "
            "else an apostrophe is put in front of them.",
        ),
    ] = False,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Print the jobs of BATCH with their results: a table on a terminal, else JSON lines."""
    file_format = _output_format(table_format, as_json=as_json, to_file=output is not None)
    if output is not None:
        from spooled_pipelines.batch.outcome.writers import parse_output_path

        parse_output_path(output)
    with connected(address, api_key, profile) as client, ignore_broken_pipe():
        jobs = batch_of(client, batch)
        if output is not None:
            rows = jobs.write_results(output, escape_formulas=not formulas)
            say(f"{rows:,} rows written to {output}", sys.stderr)
        elif file_format is TableFormat.TABLE:
            print_table(jobs.results())
        else:
            write_rows(
                jobs.results_reader(), sys.stdout.buffer, file_format, escape_formulas=not formulas
            )


def _output_format(chosen: TableFormat | None, *, as_json: bool, to_file: bool) -> TableFormat:
    if chosen is not None and (to_file or as_json):
        raise UsageError("--format is for standard output: give it without -o and --json")
    terminal = sys.stdout.isatty()
    if chosen in (TableFormat.PARQUET, TableFormat.ARROW) and terminal:
        raise UsageError(
            f"--format {chosen.value} is not for a terminal: send it to a file or program, or use "
            f"-o FILE.{chosen.value}"
        )
    if as_json:
        return TableFormat.JSONL
    return chosen or (TableFormat.TABLE if terminal else TableFormat.JSONL)
