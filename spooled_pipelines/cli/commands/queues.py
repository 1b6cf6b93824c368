"""`queues list|rename|pause|…|purge`: list queues; rename, hold, slow down or empty one."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from spooled_pipelines.cli.options import (
    Limit,
    OfOrganization,
    Queue,
    Server,
    for_server,
    queue_of,
)
from spooled_pipelines.cli.output import print_record
from spooled_pipelines.cli.text_table import print_list
from spooled_pipelines.cli.times import short_duration

if TYPE_CHECKING:
    from spooled_pipelines.types import Queue as QueueState
    from spooled_pipelines.types import QueueLimits

app = typer.Typer(
    help="List queues; rename one, hold it, let it go on, slow it down, or empty it.",
    rich_markup_mode=None,
)


@app.command("list")
@for_server
def list_(server: Server, limit: Limit = 100, organization: OfOrganization = None) -> None:
    """List queues by name; `retry`: jobs that wait for their next try, `later`: scheduled ones."""
    with server.connect(organization=organization) as client:
        found = client.queues(limit=limit)
    print_list(
        found,
        {
            "queue": "name",
            "state": state_of,
            "pending": lambda queue: queue.stats.pending - queue.waiting,
            "retry": "waiting",
            "later": "stats.scheduled",
            "running": "stats.processing",
            "done": "stats.completed",
            "dead": "stats.deadletter",
            "oldest": _oldest,
        },
        as_json=server.as_json,
        nothing="no queues yet; `spooled-pipelines enqueue FILE QUEUE` begins one"
        if organization is None
        else f"no queues in {organization}; `spooled-pipelines organizations list` names them all",
        limit=limit,
        which="first",
    )


def _oldest(queue: QueueState) -> str:
    age_ms = queue.stats.max_age_ms
    return short_duration(age_ms / 1000) if age_ms else ""


def state_of(queue: QueueState) -> str:
    """Return whether a queue hands out jobs: `paused`, `throttled`, `limited` or `running`."""
    limits = queue.limits
    limited = (limits.jobs_per_second, limits.max_in_flight) != (None, None)
    slowed = "throttled" if queue.throttle else "limited" if limited else "running"
    return "paused" if queue.paused else slowed


@app.command()
@for_server
def rename(
    server: Server,
    queue: Queue,
    new_name: Annotated[str, typer.Argument(help="A name that no queue has or had.")],
) -> None:
    """Give QUEUE another name; workers and enqueuers may go on with the earlier one.

    Rows that are there become no new jobs by either name. To move a queue to another store,
    `copy` the store.
    """
    with server.connect() as client:
        client.rename_queue(queue, new_name)
    print_record({"queue": new_name, "earlier name": queue}, server.as_json)


@app.command()
@for_server
def pause(server: Server, queue: Queue) -> None:
    """Hand out no more jobs of QUEUE; running jobs may settle."""
    with server.connect() as client:
        client.pause_queue(queue)
    print_record({"queue": queue, "state": "paused"}, server.as_json)


@app.command()
@for_server
def resume(server: Server, queue: Queue) -> None:
    """Hand out jobs of QUEUE again."""
    with server.connect() as client:
        client.resume_queue(queue_of(client, queue).name)
    print_record({"queue": queue, "state": "running"}, server.as_json)


@app.command()
@for_server
def limit(
    server: Server,
    queue: Queue,
    jobs_per_second: Annotated[
        float | None,
        typer.Option(help="Jobs handed out each second; 0.5 is one every two seconds."),
    ] = None,
    burst: Annotated[
        int | None,
        typer.Option(
            help="Jobs handed out at once after a quiet time; by default a tenth of a second's."
        ),
    ] = None,
    max_in_flight: Annotated[
        int | None, typer.Option(help="Jobs that may run at the same time.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove all limits.")] = False,
) -> None:
    """Limit how jobs of QUEUE are handed out, replacing the limits set before."""
    is_limited = (jobs_per_second, burst, max_in_flight) != (None, None, None)
    if is_limited == clear:
        raise typer.BadParameter(
            "give --jobs-per-second, --max-in-flight or both, or --clear",
            param_hint="'queues limit'",
        )
    with server.connect() as client:
        queue_limits = client.set_queue_limits(
            queue, jobs_per_second=jobs_per_second, burst=burst, max_in_flight=max_in_flight
        )
    _print_limits(queue, queue_limits, server)


@app.command()
@for_server
def limits(server: Server, queue: Queue) -> None:
    """Show the limits of QUEUE."""
    with server.connect() as client:
        queue_limits = queue_of(client, queue).limits
    _print_limits(queue, queue_limits, server)


def _print_limits(queue: str, queue_limits: QueueLimits, server: Server) -> None:
    record = {"queue": queue, **asdict(queue_limits)}
    if not server.as_json:
        record = {n.replace("_", " "): "no limit" if v is None else v for n, v in record.items()}
    print_record(record, server.as_json)


@app.command()
@for_server
def purge(server: Server, queue: Queue) -> None:
    """Cancel the pending jobs of QUEUE; scheduled jobs stay."""
    with server.connect() as client:
        cancelled = client.purge_queue(queue_of(client, queue).name)
    print_record({"queue": queue, "cancelled": cancelled}, server.as_json)
