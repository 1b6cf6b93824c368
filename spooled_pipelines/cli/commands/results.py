"""`results BATCH`: the jobs of a batch with their results, as a table."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Annotated

import typer

from spooled_pipelines.cli.exit_codes import UsageError
from spooled_pipelines.cli.options import BatchId, Server, batch_of, for_server
from spooled_pipelines.cli.output import ignore_broken_pipe, say
from spooled_pipelines.cli.table_output import (
    SHOWN_ROWS,
    TableFormat,
    chosen_rows,
    print_table,
    write_rows,
)


class ResultStatus(str, Enum):
    """The values of --status."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    PROCESSING = "processing"
    COMPLETED = "completed"
    DEADLETTER = "deadletter"
    CANCELLED = "cancelled"


@for_server
def results(
    server: Server,
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
    status: Annotated[
        list[ResultStatus] | None,
        typer.Option(help="Only rows in this state; repeat it for several."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, show_default="20 on a terminal, else all", help="The most rows."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(show_default="all", help="Which columns, in this order, with commas between."),
    ] = None,
    payload: Annotated[
        bool | None,
        typer.Option(
            "--payload/--no-payload",
            show_default="on a terminal",
            help="The columns of the payload as well.",
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
) -> None:
    """Print the jobs of BATCH with their results: a table on a terminal, else JSON lines."""
    file_format = _output_format(table_format, as_json=server.as_json, to_file=output is not None)
    if output is not None:
        from spooled_pipelines.batch.outcome.writers import parse_output_path

        parse_output_path(output)
    on_terminal = output is None and file_format == "table"
    with server.connect() as client, ignore_broken_pipe():
        found = batch_of(client, batch)
        backend = client.batch_backend()
        shows_payload = on_terminal and backend.keeps_batches if payload is None else payload
        reader = chosen_rows(
            found.results_reader(payload=shows_payload),
            [one.value for one in status or ()],
            None if columns is None else [name.strip() for name in columns.split(",")],
            None if on_terminal else limit,
        )
        if output is not None:
            from spooled_pipelines.batch.outcome.writers import write_stream

            rows = write_stream(reader, output, escape_formulas=not formulas)
            say(f"{rows:,} rows written to {output}", sys.stderr)
        elif on_terminal:
            print_table(reader, limit or SHOWN_ROWS)
        else:
            write_rows(reader, sys.stdout.buffer, file_format, escape_formulas=not formulas)


def _output_format(chosen: TableFormat | None, *, as_json: bool, to_file: bool) -> TableFormat:
    if chosen is not None and (to_file or as_json):
        raise UsageError("--format is for standard output: give it without -o and --json")
    terminal = sys.stdout.isatty()
    if chosen in ("parquet", "arrow") and terminal:
        raise UsageError(
            f"--format {chosen} is not for a terminal: send it to a file or program, or use "
            f"-o FILE.{chosen}"
        )
    if as_json:
        return "jsonl"
    return chosen or ("table" if terminal else "jsonl")
