"""What each RPC does. A method is its RPC's name in snake case, by which `rpc` finds it."""

from spooled_pipelines.server.services.batch import BatchService
from spooled_pipelines.server.services.context import ServiceContext
from spooled_pipelines.server.services.keys import KeyService
from spooled_pipelines.server.services.queue import QueueService
from spooled_pipelines.server.services.queue_admin import QueueAdminService
from spooled_pipelines.server.services.worker import WorkerService

__all__ = [
    "BatchService",
    "KeyService",
    "QueueAdminService",
    "QueueService",
    "ServiceContext",
    "WorkerService",
]
