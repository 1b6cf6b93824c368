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
            "AddedPart": "batch.parts",
            "AsyncBatch": "batch.aio.batch",
            "AsyncBatchBackend": "batch.aio.backend",
            "AsyncJobStream": "client.aio.streams",
            "AsyncOpenBatch": "batch.aio.open_batch",
            "AsyncProcessStream": "client.aio.process",
            "AsyncSpooledClient": "client.aio.client",
            "Batch": "batch.sync.batch",
            "BatchBackend": "batch.sync.backend",
            "BatchPart": "batch.parts",
            "BatchPlan": "batch.plan",
            "BatchStats": "types",
            "CancelResult": "types",
            "ConnectionSettings": "rpc.settings",
            "EnqueueResult": "types",
            "FailResult": "types",
            "HeartbeatResult": "types",
            "Job": "types",
            "JobAttempt": "types",
            "JobCompleted": "client.process_responses",
            "JobFailed": "client.process_responses",
            "JobStatus": "types",
            "JobStream": "client.sync.streams",
            "LeaseRenewed": "client.process_responses",
            "OpenBatch": "batch.sync.open_batch",
            "ProcessStream": "client.sync.process",
            "Queue": "types",
            "QueueLimits": "types",
            "QueueStats": "types",
            "QueueThrottle": "types",
            "RequestRejected": "client.process_responses",
            "RetryPolicy": "rpc.retry",
            "SettledResults": "batch.sync.settled_results",
            "SpooledClient": "client.sync.client",
            "Stall": "types",
            "TLS": "rpc.settings",
            "TextOptions": "batch.options.text_options",
            "WaitingError": "types",
            "WorkerRegistration": "types",
            "WorkerState": "types",
            "__version__": "version",
            "connect": "client.connect",
            "errors": "errors",
        },
    )
