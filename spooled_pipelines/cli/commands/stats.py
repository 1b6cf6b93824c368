"""`stats QUEUE`: the jobs of a queue by status, and what becomes of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from spooled_pipelines.cli.commands.queues import state_of
from spooled_pipelines.cli.options import OfOrganization, Queue, Server, for_server, queue_of
from spooled_pipelines.cli.output import print_json, print_pairs, say
from spooled_pipelines.cli.times import time_until
from spooled_pipelines.rpc import validation
from spooled_pipelines.text import one_line

if TYPE_CHECKING:
    from spooled_pipelines.types import Queue as QueueState
    from spooled_pipelines.types import WorkerState


@for_server
def stats(server: Server, queue: Queue, organization: OfOrganization = None) -> None:
    """Show the jobs of QUEUE by status, its workers, and the errors of jobs that wait to retry."""
    validation.queue_name(queue)
    with server.connect(organization=organization) as client:
        if not client.batch_backend().keeps_batches:
            # Such a server has these numbers alone.
            numbers = dataclasses.asdict(client.queue_stats(queue))
            if server.as_json:
                print_json(numbers)
            else:
                age = numbers.pop("max_age_ms") / 1000
                print_pairs({**numbers, "oldest waiting": f"{age:,.1f} s"})
            return
        found = queue_of(client, queue)
        workers = client.workers(queue)
    if server.as_json:
        parts = {
            name: value for name, value in vars(found).items() if name not in ("name", "stats")
        }
        print_json({**dataclasses.asdict(found.stats), **parts, "workers": workers})
        return
    _print(found, workers)


def _print(queue: QueueState, workers: list[WorkerState]) -> None:
    numbers, limits = queue.stats, queue.limits
    offline = sum(worker.offline for worker in workers)
    parts = [f"{len(workers) - offline:,}", *([f"{offline:,} offline"] if offline else [])]
    held = {
        "jobs/s": limits.jobs_per_second,
        "burst": limits.burst,
        "running at once": limits.max_in_flight,
    }
    limited = ", ".join(f"{value:,g} {name}" for name, value in held.items() if value is not None)
    print_pairs(
        {
            "queue": queue.name,
            "state": state_of(queue),
            **({"limits": limited} if limited else {}),
            "workers": ", ".join(parts),
            "pending": numbers.pending - queue.waiting,
            "retrying": queue.waiting,
            "scheduled": numbers.scheduled,
            "processing": numbers.processing,
            "completed": numbers.completed,
            "deadletter": numbers.deadletter,
            "cancelled": queue.cancelled,
            **({"of these expired": queue.expired} if queue.expired else {}),
            "total": numbers.total,
            "oldest waiting": f"{numbers.max_age_ms / 1000:,.1f} s",
        }
    )
    for error in queue.waiting_errors:
        when = time_until(error.next_at)
        say(f"retrying: {error.count:,} × {one_line(error.error, 100)}, next try in {when}")
