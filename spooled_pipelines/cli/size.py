"""`size`: how many servers, cores and gibibytes so many jobs a day need."""

from __future__ import annotations

from typing import Annotated

import typer

from spooled_pipelines.cli.exit_codes import UsageError
from spooled_pipelines.cli.options import AsJson
from spooled_pipelines.cli.output import print_json, print_pairs


def size(
    jobs_per_day: Annotated[float, typer.Option(help="Jobs that are made and done in a day.")],
    payload: Annotated[float, typer.Option(help="Bytes of a job's payload and result.")] = 500,
    peak: Annotated[
        float, typer.Option(help="The busiest hour's rate, as a multiple of the day's mean.")
    ] = 4,
    keep_days: Annotated[float, typer.Option(help="How long jobs are kept.")] = 7,
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 10,
    jobs_per_call: Annotated[
        float, typer.Option(help="Jobs that a worker takes or settles at once, when busy.")
    ] = 10,
    database_cores: Annotated[
        int, typer.Option(help="The most cores that one PostgreSQL can have.")
    ] = 16,
    costs: Annotated[
        str | None,
        typer.Option(help="A JSON file of measured costs: python -m benchmarks costs FILE."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What it takes to do so many jobs a day on PostgreSQL, by a model of measured costs."""
    import dataclasses
    import json
    from pathlib import Path

    from spooled_pipelines.cli import sizing

    try:
        measured = sizing.Costs(**json.loads(Path(costs).read_text())) if costs else None
        demand = sizing.Demand(jobs_per_day, payload, peak, keep_days, workers, jobs_per_call)
        found = sizing.size(demand, measured, database_cores=database_cores)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    print_pairs(
        {
            "jobs a second, busiest hour": f"{found.jobs_per_second:,.1f}",
            "servers": f"{found.servers} of one core ({found.server_cores:.2f} busy)",
            "memory of each": f"{found.server_memory_mib:,.0f} MiB",
            "PostgreSQL": f"{found.database_cores:,.1f} cores",
            "connections of each": found.connections,
            "its write-ahead log": f"{found.wal_mb_per_second:,.1f} MB/s",
            "its disk": f"{found.disk_gib:,.1f} GiB",
            "independent databases": found.databases,
            "used up first": found.limit,
        }
    )
