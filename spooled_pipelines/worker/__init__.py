"""The worker: takes jobs from queues, renews their leases, and settles them.

The way of a job: `fetcher` (how many: `fetch_policy`; while a queue is empty: `idle_wait`) →
`lease_table` → `executors` or `processes`, which call the `handler` by its `adapter`, or by
`batch_handlers` → `outcome` → `settler` (`batch_settler`, or `settle_channels` for a plain server).
`lease_renewer` (on a thread of its own), `registration` and `watchdog` run beside it, `engine`
runs them all in an `event_loop` that no handler ends, `loop_monitor` names what blocks that, and
`worker` is what users see.

Names are loaded when they are first used: a process that only runs handlers needs no gRPC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spooled_pipelines._lazy import attach

if TYPE_CHECKING:
    from spooled_pipelines.types import Job
    from spooled_pipelines.worker.batch_handlers import batch_handler
    from spooled_pipelines.worker.context import JobContext
    from spooled_pipelines.worker.engine import WorkerReport
    from spooled_pipelines.worker.outcome import Discard, Retry, Snooze, Throttled
    from spooled_pipelines.worker.settings import QueueShare
    from spooled_pipelines.worker.settler import Settled
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
            "Discard": "worker.outcome",
            "Job": "types",
            "JobContext": "worker.context",
            "QueueShare": "worker.settings",
            "Retry": "worker.outcome",
            "Settled": "worker.settler",
            "Snooze": "worker.outcome",
            "Throttled": "worker.outcome",
            "Worker": "worker.worker",
            "WorkerReport": "worker.engine",
            "batch_handler": "worker.batch_handlers",
        },
    )
