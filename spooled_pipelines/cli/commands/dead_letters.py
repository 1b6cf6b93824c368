"""`dead-letters list|errors|history|retry|discard`: the jobs that failed for good."""

from __future__ import annotations

from datetime import datetime
from operator import itemgetter
from typing import Annotated, Any

import typer

from spooled_pipelines.cli.commands.jobs import JobId, print_attempt
from spooled_pipelines.cli.exit_codes import UsageError
from spooled_pipelines.cli.options import (
    ErrorContains,
    OfOrganization,
    Queue,
    Server,
    batch_of,
    for_server,
    job_id_of,
    queue_of,
)
from spooled_pipelines.cli.output import print_json, print_record, say
from spooled_pipelines.cli.text_table import print_list
from spooled_pipelines.cli.times import time_until

app = typer.Typer(
    help="List, retry and discard the dead letters of a queue.", rich_markup_mode=None
)


@app.command("list")
@for_server
def list_(
    server: Server,
    queue: Queue,
    limit: Annotated[int, typer.Option(min=1, help="The most to list, oldest first.")] = 100,
    organization: OfOrganization = None,
) -> None:
    """List the dead letters of QUEUE: when they died, how often they were tried, and why."""
    with server.connect(organization=organization) as client:
        jobs = client.dead_letters(queue_of(client, queue).name, limit=limit)
    lines = [
        {
            "id": job.id,
            "died_at": job.completed_at.isoformat(timespec="seconds") if job.completed_at else "",
            "retries": job.retry_count,
            "deliveries": job.deliveries,
            "error": " ".join((job.last_error or "").split()),
        }
        for job in jobs
    ]
    keys = {"job": "id", "died": "died_at"}
    keys |= {name: name for name in ("retries", "deliveries", "error")}
    print_list(
        lines,
        {name: itemgetter(key) for name, key in keys.items()},
        as_json=server.as_json,
        nothing=f"no dead letters in {queue}",
        limit=limit,
        which="oldest",
    )


@app.command("errors")
@for_server
def errors_(
    server: Server,
    queue: Annotated[
        str | None, typer.Argument(show_default=False, help="The queue's name; or give --batch.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(help="A batch instead of a queue, by its id or name.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="The most jobs to look at, the newest of a queue.")
    ] = 10_000,
) -> None:
    """Group what failed by error: the dead letters, and the jobs that wait for a retry.

    Errors that differ in numbers, ids and quoted texts alone are one.
    """
    from spooled_pipelines.batch.outcome.dead_letters import FailureSummary
    from spooled_pipelines.error_shapes import error_shape

    if (queue is None) == (batch is None):
        raise UsageError("give QUEUE, or --batch BATCH")
    tries: dict[str, datetime] = {}
    with server.connect() as client:
        if batch is not None:
            found = batch_of(client, batch)
            dead = found.find_jobs(statuses=["deadletter"], limit=limit)
            waiting = []
            stats = found.stats()
            # Jobs of a batch come without the time of their next try.
            tries = {error.error: error.next_at for error in stats.waiting_errors}
            if stats.waiting:
                pending = found.find_jobs(statuses=["pending"], limit=limit)
                waiting = [job for job in pending if job.last_error]
        else:
            queue_of(client, queue or "")
            dead = client.jobs(queue, statuses=["deadletter"], limit=limit)
            waiting = client.jobs(queue, waiting=True, limit=limit)
    lines: list[dict[str, Any]] = []
    for state, jobs in (("dead", dead), ("retrying", waiting)):
        summary = FailureSummary()
        for job in jobs:
            summary.add_job(job)
        lines += [{"state": state, **line} for line in summary.lines()]
    for line in lines:
        if line["state"] == "retrying" and line["next"] is None:
            line["next"] = tries.get(error_shape(line["example"]))
    print_list(
        lines,
        {
            **{name: itemgetter(name) for name in ("count", "state", "error", "retries")},
            "next try": lambda line: time_until(line["next"]),
            "such as": lambda line: line["job_ids"][0],
        },
        as_json=server.as_json,
        nothing="nothing failed",
    )
    if max(len(dead), len(waiting)) == limit and not server.as_json:
        say(f"of {limit:,} jobs; --limit looks at more")


@app.command()
@for_server
def history(server: Server, job: JobId) -> None:
    """List every delivery of JOB: when, to which worker, and how it ended."""
    with server.connect() as client:
        attempts = client.attempts(job_id_of(client, job))
    for attempt in attempts:
        if server.as_json:
            print_json(attempt)
        else:
            print_attempt(attempt)


@app.command()
@for_server
def discard(server: Server, queue: Queue, error_contains: ErrorContains = None) -> None:
    """Cancel the dead letters of QUEUE, so that they no longer count as dead."""
    with server.connect() as client:
        discarded = client.discard_dead_letters(queue_of(client, queue).name, error_contains)
    print_record({"queue": queue, "discarded": discarded}, server.as_json)


@app.command()
@for_server
def retry(server: Server, queue: Queue, error_contains: ErrorContains = None) -> None:
    """Put the dead letters of QUEUE back into it, with all their retries."""
    with server.connect() as client:
        retried = client.retry_dead_letters(queue_of(client, queue).name, error_contains)
    print_record({"queue": queue, "retried": retried}, server.as_json)
