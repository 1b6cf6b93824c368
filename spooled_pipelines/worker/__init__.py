"""The worker: takes jobs from queues, renews their leases, and settles them."""

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
