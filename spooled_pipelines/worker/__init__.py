"""The worker: takes jobs from queues, renews their leases, and settles them.

The way of a job: `fetching` (how many: `fetch_policy`; while a queue is empty: `idle_wait`) → the
lease table of `jobs` → `handlers` (`executors` or `processes`, which call the `handler` by its
`adapter`, or by `batch_handlers`) → `jobs.outcome` → `settling` (`batch_settler`, or
`settle_channels` for a plain server). What is in `supervision` runs beside it, `engine` runs all of
it in an event loop that no handler ends, and `worker` is what users see.

Names are loaded when they are first used: a process that only runs handlers needs no gRPC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spooled_pipelines._lazy import attach

if TYPE_CHECKING:
    from spooled_pipelines.types import Job
    from spooled_pipelines.worker.engine import WorkerReport
    from spooled_pipelines.worker.handlers.batch_handlers import batch_handler
    from spooled_pipelines.worker.jobs.context import JobContext
    from spooled_pipelines.worker.jobs.outcome import Discard, Retry, Snooze, Throttled
    from spooled_pipelines.worker.settings import QueueShare
    from spooled_pipelines.worker.settling.settler import Settled
    from spooled_pipelines.worker.worker import Worker

__all__ = [
    "Discard",
    "Job",
    "JobContext",
    "QueueShare",
    "Retry",
    "Settled",
    "Snooze",
    "Throttled",
    "Worker",
    "WorkerReport",
    "batch_handler",
]

# A type checker would take `__getattr__` for a definition of every name.
if not TYPE_CHECKING:
    __getattr__, __dir__ = attach(
        __name__,
        {
            "types": "Job",
            "worker.engine": "WorkerReport",
            "worker.handlers.batch_handlers": "batch_handler",
            "worker.jobs.context": "JobContext",
            "worker.jobs.outcome": "Discard Retry Snooze Throttled",
            "worker.settings": "QueueShare",
            "worker.settling.settler": "Settled",
            "worker.worker": "Worker",
        },
    )
