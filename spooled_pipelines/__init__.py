"""A table goes in, jobs come out, and the pipeline knows when they are done.

    import spooled_pipelines as sp

    with sp.connect("localhost:50051", api_key="sp_live_...") as client:
        batch = client.enqueue_batch(table, "flights", key="flight_id")
        batch.wait()
        results = batch.results()

Names are loaded when they are first used: importing this costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spooled_pipelines._lazy import attach

if TYPE_CHECKING:
    from spooled_pipelines import errors
    from spooled_pipelines.batch.aio.backend import AsyncBatchBackend
    from spooled_pipelines.batch.aio.batch import AsyncBatch
    from spooled_pipelines.batch.aio.open_batch import AsyncOpenBatch
    from spooled_pipelines.batch.options.text_options import TextOptions
    from spooled_pipelines.batch.parts import AddedPart, BatchPart
    from spooled_pipelines.batch.plan import BatchPlan
    from spooled_pipelines.batch.sync.backend import BatchBackend
    from spooled_pipelines.batch.sync.batch import Batch
    from spooled_pipelines.batch.sync.open_batch import OpenBatch
    from spooled_pipelines.batch.sync.settled_results import SettledResults
    from spooled_pipelines.client.aio.client import AsyncSpooledClient
    from spooled_pipelines.client.aio.process import AsyncProcessStream
    from spooled_pipelines.client.aio.streams import AsyncJobStream
    from spooled_pipelines.client.connect import connect
    from spooled_pipelines.client.process_responses import (
        JobCompleted,
        JobFailed,
        LeaseRenewed,
        RequestRejected,
    )
    from spooled_pipelines.client.sync.client import SpooledClient
    from spooled_pipelines.client.sync.process import ProcessStream
    from spooled_pipelines.client.sync.streams import JobStream
    from spooled_pipelines.rpc.retry import RetryPolicy
    from spooled_pipelines.rpc.settings import TLS, ConnectionSettings
    from spooled_pipelines.types import (
        BatchStats,
        CancelResult,
        EnqueueResult,
        FailResult,
        HeartbeatResult,
        Job,
        JobAttempt,
        JobStatus,
        Queue,
        QueueLimits,
        QueueStats,
        QueueThrottle,
        Stall,
        WaitingError,
        WorkerRegistration,
        WorkerState,
    )
    from spooled_pipelines.version import __version__

__all__ = [
    "TLS",
    "AddedPart",
    "AsyncBatch",
    "AsyncBatchBackend",
    "AsyncJobStream",
    "AsyncOpenBatch",
    "AsyncProcessStream",
    "AsyncSpooledClient",
    "Batch",
    "BatchBackend",
    "BatchPart",
    "BatchPlan",
    "BatchStats",
    "CancelResult",
    "ConnectionSettings",
    "EnqueueResult",
    "FailResult",
    "HeartbeatResult",
    "Job",
    "JobAttempt",
    "JobCompleted",
    "JobFailed",
    "JobStatus",
    "JobStream",
    "LeaseRenewed",
    "OpenBatch",
    "ProcessStream",
    "Queue",
    "QueueLimits",
    "QueueStats",
    "QueueThrottle",
    "RequestRejected",
    "RetryPolicy",
    "SettledResults",
    "SpooledClient",
    "Stall",
    "TextOptions",
    "WaitingError",
    "WorkerRegistration",
    "WorkerState",
    "__version__",
    "connect",
    "errors",
]

# A type checker would take `__getattr__` for a definition of every name.
if not TYPE_CHECKING:
    __getattr__, __dir__ = attach(
        __name__,
        {
            "batch.aio.backend": "AsyncBatchBackend",
            "batch.aio.batch": "AsyncBatch",
            "batch.aio.open_batch": "AsyncOpenBatch",
            "batch.options.text_options": "TextOptions",
            "batch.parts": "AddedPart BatchPart",
            "batch.plan": "BatchPlan",
            "batch.sync.backend": "BatchBackend",
            "batch.sync.batch": "Batch",
            "batch.sync.open_batch": "OpenBatch",
            "batch.sync.settled_results": "SettledResults",
            "client.aio.client": "AsyncSpooledClient",
            "client.aio.process": "AsyncProcessStream",
            "client.aio.streams": "AsyncJobStream",
            "client.connect": "connect",
            "client.process_responses": "JobCompleted JobFailed LeaseRenewed RequestRejected",
            "client.sync.client": "SpooledClient",
            "client.sync.process": "ProcessStream",
            "client.sync.streams": "JobStream",
            "errors": "errors",
            "rpc.retry": "RetryPolicy",
            "rpc.settings": "ConnectionSettings TLS",
            "types": "BatchStats CancelResult EnqueueResult FailResult HeartbeatResult Job "
            "JobAttempt JobStatus Queue QueueLimits QueueStats QueueThrottle Stall "
            "WaitingError WorkerRegistration WorkerState",
            "version": "__version__",
        },
    )
