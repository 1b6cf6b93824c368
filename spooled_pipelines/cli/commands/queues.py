"""`queues pause|resume|purge|limit|limits` and `dead-letters list|errors|history|retry|discard`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from spooled_pipelines.cli.options import Address, ApiKey, AsJson, Profile, connected
from spooled_pipelines.cli.output import print_json, print_one, print_pairs

if TYPE_CHECKING:
    from spooled_pipelines.types import QueueLimits

Queue = Annotated[str, typer.Argument(help="The queue's name.")]

queues = typer.Typer(
    help="Hold a queue, let it go on, slow it down, or empty it.", rich_markup_mode=None
)
dead_letters = typer.Typer(help="See and retry the dead letters of a queue.", rich_markup_mode=None)


@queues.command()
def pause(
    queue: Queue,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Hand out no job of QUEUE any more; what runs may settle."""
    with connected(address, api_key, profile) as client:
        client.pause_queue(queue)
    print_one({"queue": queue, "state": "paused"}, as_json)


@queues.command()
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
    print_one({"queue": queue, "state": "running"}, as_json)


@queues.command()
def limit(
    queue: Queue,
    jobs_per_second: Annotated[
        float | None, typer.Option(help="So many jobs go out a second; 0.5 is one in two seconds.")
    ] = None,
    burst: Annotated[
        int | None,
        typer.Option(help="So many at once after a quiet time; a tenth of a second's by default."),
    ] = None,
    max_in_flight: Annotated[
        int | None, typer.Option(help="So many jobs are being done at any time.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take all limits away.")] = False,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Cap how jobs of QUEUE are handed out, in place of what was set before."""
    given = (jobs_per_second, burst, max_in_flight) != (None, None, None)
    if given == clear:
        raise typer.BadParameter(
            "give --jobs-per-second, --max-in-flight or both, or else --clear",
            param_hint="'queues limit'",
        )
    with connected(address, api_key, profile) as client:
        kept = client.set_queue_limits(
            queue, jobs_per_second=jobs_per_second, burst=burst, max_in_flight=max_in_flight
        )
    _print_limits(queue, kept, as_json)


@queues.command()
def limits(
    queue: Queue,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """The limits of QUEUE."""
    with connected(address, api_key, profile) as client:
        kept = client.queue_limits(queue)
    _print_limits(queue, kept, as_json)


def _print_limits(queue: str, kept: QueueLimits, as_json: bool) -> None:
    found = {"queue": queue, **asdict(kept)}
    if as_json:
        print_json(found)
        return
    shown = {name.replace("_", " "): "no limit" if v is None else v for name, v in found.items()}
    print_pairs(shown)


@queues.command()
def purge(
    queue: Queue,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Cancel what is pending on QUEUE; scheduled jobs stay."""
    with connected(address, api_key, profile) as client:
        cancelled = client.purge_queue(queue)
    found = {"queue": queue, "cancelled": cancelled}
    print_one(found, as_json)


@dead_letters.command("list")
def list_(
    queue: Queue,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, oldest first.")] = 100,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """The dead letters of QUEUE: when they died, after how many retries, and why."""
    with connected(address, api_key, profile) as client:
        found = client.dead_letters(queue, limit=limit)
    for job in found:
        died = job.completed_at.isoformat(timespec="seconds") if job.completed_at else ""
        error = " ".join((job.last_error or "").split())
        if as_json:
            print_json({"id": job.id, "died_at": died, "retries": job.retry_count, "error": error})
        else:
            print(f"{job.id}  {died}  {job.retry_count} retries  {error}")


@dead_letters.command("errors")
def errors_(
    batch: Annotated[str, typer.Argument(help="The batch's id, as `enqueue` printed it.")],
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """The dead letters of BATCH by error: how many, how often they were tried, and one of them."""
    with connected(address, api_key, profile) as client:
        lines = client.batch(batch).failed().to_pylist()
    for line in lines:
        if as_json:
            print_json(line)
        else:
            example = line["job_ids"][0]
            retries = f"{line['retries']} retries at most"
            print(f"{line['count']:>8,}  {line['error']}  ({retries}, such as {example})")


@dead_letters.command()
def history(
    job: Annotated[str, typer.Argument(help="The job's id.")],
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Every attempt at JOB: when, by whom, and how it ended."""
    with connected(address, api_key, profile) as client:
        attempts = client.attempts(job)
    for attempt in attempts:
        if as_json:
            print_json(attempt)
            continue
        began = attempt.started_at.isoformat(timespec="seconds")
        seconds = ""
        if attempt.ended_at is not None:
            seconds = f" for {(attempt.ended_at - attempt.started_at).total_seconds():.1f} s"
        error = " ".join((attempt.error or "did not fail").split())
        print(f"{attempt.number:>3}  {began}{seconds}  {attempt.worker_id or ''}  {error}")


@dead_letters.command()
def discard(
    queue: Queue,
    where: Annotated[
        str | None, typer.Option(help="Only those whose error has this text in it.")
    ] = None,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Cancel the dead letters of QUEUE, so that nobody has to look at them."""
    with connected(address, api_key, profile) as client:
        discarded = client.discard_dead_letters(queue, where)
    print_one({"queue": queue, "discarded": discarded}, as_json)


@dead_letters.command("redrive", hidden=True)
@dead_letters.command()
def retry(
    queue: Queue,
    where: Annotated[
        str | None, typer.Option(help="Only those whose error has this text in it.")
    ] = None,
    address: Address = None,
    api_key: ApiKey = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Put the dead letters of QUEUE back into it, with all their retries."""
    with connected(address, api_key, profile) as client:
        redriven = client.redrive(queue, where)
    found = {"queue": queue, "redriven": redriven}
    print_one(found, as_json)
