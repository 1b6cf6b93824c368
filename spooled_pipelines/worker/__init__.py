"""Takes jobs from a queue, keeps their leases, and settles them."""

from spooled_pipelines.worker.engine import WorkerReport
from spooled_pipelines.worker.outcome import Discard
from spooled_pipelines.worker.settler import Settled
from spooled_pipelines.worker.worker import Worker

__all__ = ["Discard", "Settled", "Worker", "WorkerReport"]
