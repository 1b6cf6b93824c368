"""`results BATCH`: what came of a batch's jobs, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spooled_pipelines.cli.codes import UsageError
from spooled_pipelines.cli.options import Address, ApiKey, AsJson, connected
from spooled_pipelines.cli.output import for_a_reader

SUFFIXES = (".parquet", ".csv", ".jsonl")


def results(
    batch: Annotated[str, typer.Argument(help="The batch's id, as `enqueue` printed it.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file to write: .parquet, .csv or .jsonl."),
    ] = None,
    address: Address = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """The jobs of BATCH with their results: a table on a terminal, JSON lines elsewhere."""
    import sys

    if output is not None and output.suffix not in SUFFIXES:
        raise UsageError(f"{output}: the name should end in one of {', '.join(SUFFIXES)}")
    if output is not None and not output.parent.is_dir():
        raise UsageError(f"{output.parent}: no such folder")
    with connected(address, api_key) as client:
        table = client.batch(batch).results()

    from spooled_pipelines.cli import tables

    if output is not None:
        tables.write(table, output)
        print(f"{table.num_rows:,} rows written to {output}", file=sys.stderr)
        return
    with for_a_reader():
        if as_json or not sys.stdout.isatty():
            tables.write_json_lines(table, sys.stdout)
        else:
            tables.show(table)
