"""The worker: takes jobs from queues, renews their leases, and settles them.

The way of a job: `fetcher` (how many: `fetch_policy`; while a queue is empty: `idle_wait`) →
`lease_table` → `executors` or `processes`, which call the `handler` by its `adapter`, or as a
`batch_handler` → `outcome` → `settler` (`batch_settler`, or `settle_channels` for a plain server).
`lease_renewer`, `registration` and `watchdog` run beside it, `engine` runs them all, and `worker`
is what users see.
"""

from spooled_pipelines.worker.batch_handler import batch_handler
from spooled_pipelines.worker.context import JobContext
from spooled_pipelines.worker.engine import WorkerReport
from spooled_pipelines.worker.outcome import Discard, Retry
from spooled_pipelines.worker.settings import QueueShare
from spooled_pipelines.worker.settler import Settled
from spooled_pipelines.worker.worker import Worker

__all__ = [
    "Discard",
    "JobContext",
    "QueueShare",
    "Retry",
    "Settled",
    "Worker",
    "WorkerReport",
    "batch_handler",
]
