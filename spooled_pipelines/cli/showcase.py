"""`demo`: a real table through a real Airflow; what it does is in `spooled_pipelines.cli.demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spooled_pipelines.cli.options import AsJson


def demo(
    rows: Annotated[
        str, typer.Option(help="all (336 776 flights), january (27 004), or a number.")
    ] = "all",
    output: Annotated[Path, typer.Option(help="Where to write results, plot and logs.")] = Path(
        "demo-output"
    ),
    as_json: AsJson = False,
) -> None:
    """The flights of New York: enqueued by a DAG, done by a worker, waited for, read back."""
    from spooled_pipelines.cli.demo import run_demo

    raise typer.Exit(run_demo(rows=rows, output=output, as_json=as_json))
