"""spooled.v1.WorkerService."""

from __future__ import annotations

from functools import partial

from spooled_pipelines.server.auth import Caller
from spooled_pipelines.server.core import ids, validation
from spooled_pipelines.server.core.jobs.records import WorkerRecord
from spooled_pipelines.server.core.runtime.presence import HEARTBEAT_SECONDS
from spooled_pipelines.server.services import heartbeats
from spooled_pipelines.server.services.context import ServiceContext
from spooled_pipelines.server.services.leases import process_jobs
from spooled_pipelines.wire import limits, spooled_v1

_CONCURRENCY_DEFAULT, _CONCURRENCY_MAX = 5, 100_000


class WorkerService:
    """The service of workers: registration and heartbeats."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self.heartbeat = partial(heartbeats.heartbeat, context)
        self.process_jobs = partial(process_jobs, context)

    async def register(
        self, caller: Caller, request: spooled_v1.RegisterWorkerRequest
    ) -> spooled_v1.RegisterWorkerResponse:
        given = request.worker_id if request.HasField("worker_id") else ids.new_worker_id()
        concurrency = request.max_concurrency or _CONCURRENCY_DEFAULT
        worker = WorkerRecord(
            worker_id=validation.worker_id(given),
            queue_name=validation.queue_name(request.queue_name),
            hostname=validation.text("hostname", request.hostname, heartbeats.LABEL_MAX),
            worker_type=validation.text("worker_type", request.worker_type, heartbeats.LABEL_MAX),
            max_concurrency=validation.integer("max_concurrency", concurrency, 1, _CONCURRENCY_MAX),
            version=validation.text("version", request.version, heartbeats.LABEL_MAX),
            metadata=heartbeats.packed(request.metadata),
        )
        await self._context.store.register_worker(caller.organization, worker)
        return spooled_v1.RegisterWorkerResponse(
            worker_id=worker.worker_id,
            lease_duration_secs=limits.LEASE_SECONDS_DEFAULT,
            heartbeat_interval_secs=HEARTBEAT_SECONDS,
        )

    async def deregister(
        self, caller: Caller, request: spooled_v1.DeregisterRequest
    ) -> spooled_v1.DeregisterResponse:
        worker_id = validation.worker_id(request.worker_id)
        gone = await self._context.store.deregister_worker(caller.organization, worker_id)
        return spooled_v1.DeregisterResponse(success=gone)
