"""`queues list|pause|resume|limit|limits|purge`: list queues; hold, slow down or empty one."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from spooled_pipelines.cli.options import (
    Address,
    ApiKey,
    AsJson,
    Limit,
    OfOrganization,
    Profile,
    Queue,
    connected,
)
from spooled_pipelines.cli.output import print_json, print_pairs, print_record, say
from spooled_pipelines.cli.text_table import print_rows
from spooled_pipelines.cli.times import short_duration

if TYPE_CHECKING:
    from spooled_pipelines.types import Queue as QueueState
    from spooled_pipelines.types import QueueLimits

app = typer.Typer(
    help="List queues; hold one, let it go on, slow it down, or empty it.", rich_markup_mode=None
)


@app.command("list")
def list_(
    limit: Limit = 100,
    organization: OfOrganization = None,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """List queues by name; `retry`: jobs that wait for their next try, `later`: scheduled ones."""
    with connected(address, api_key, profile, organization=organization) as client:
        found = client.queues(limit=limit)
    if as_json:
        for queue in found:
            print_json(queue)
        return
    print_rows(
        ["queue", "state", "pending", "retry", "later", "running", "done", "dead", "oldest"],
        [
            (
                queue.name,
                state_of(queue),
                queue.stats.pending - queue.waiting,
                queue.waiting,
                queue.stats.scheduled,
                queue.stats.processing,
                queue.stats.completed,
                queue.stats.deadletter,
                short_duration(queue.stats.max_age_ms / 1000) if queue.stats.max_age_ms else "",
            )
            for queue in found
        ],
        nothing="no queues yet; `spooled-pipelines enqueue FILE QUEUE` begins one"
        if organization is None
        else f"no queues in {organization}; `spooled-pipelines organizations list` names them all",
    )
    if len(found) == limit:
        say(f"the first {limit:,}; --limit shows more")


def state_of(queue: QueueState) -> str:
    """Return whether a queue hands out jobs: `paused`, `throttled`, `limited` or `running`."""
    limits = queue.limits
    limited = (limits.jobs_per_second, limits.max_in_flight) != (None, None)
    slowed = "throttled" if queue.throttle else "limited" if limited else "running"
    return "paused" if queue.paused else slowed


@app.command()
def pause(
    queue: Queue,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Hand out no more jobs of QUEUE; running jobs may settle."""
    with connected(address, api_key, profile) as client:
        client.pause_queue(queue)
    print_record({"queue": queue, "state": "paused"}, as_json)


@app.command()
def resume(
    queue: Queue,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Hand out jobs of QUEUE again."""
    with connected(address, api_key, profile) as client:
        client.resume_queue(queue)
    print_record({"queue": queue, "state": "running"}, as_json)


@app.command()
def limit(
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
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Limit how jobs of QUEUE are handed out, replacing the limits set before."""
    is_limited = (jobs_per_second, burst, max_in_flight) != (None, None, None)
    if is_limited == clear:
        raise typer.BadParameter(
            "give --jobs-per-second, --max-in-flight or both, or --clear",
            param_hint="'queues limit'",
        )
    with connected(address, api_key, profile) as client:
        queue_limits = client.set_queue_limits(
            queue, jobs_per_second=jobs_per_second, burst=burst, max_in_flight=max_in_flight
        )
    _print_limits(queue, queue_limits, as_json)


@app.command()
def limits(
    queue: Queue,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Show the limits of QUEUE."""
    with connected(address, api_key, profile) as client:
        queue_limits = client.queue_limits(queue)
    _print_limits(queue, queue_limits, as_json)


def _print_limits(queue: str, queue_limits: QueueLimits, as_json: bool) -> None:
    record = {"queue": queue, **asdict(queue_limits)}
    if as_json:
        print_json(record)
        return
    texts = {name.replace("_", " "): "no limit" if v is None else v for name, v in record.items()}
    print_pairs(texts)


@app.command()
def purge(
    queue: Queue,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Cancel the pending jobs of QUEUE; scheduled jobs stay."""
    with connected(address, api_key, profile) as client:
        cancelled = client.purge_queue(queue)
    print_record({"queue": queue, "cancelled": cancelled}, as_json)
