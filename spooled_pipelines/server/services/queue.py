"""spooled.v1.QueueService."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial

from spooled_pipelines.server.auth import Caller
from spooled_pipelines.server.core import validation
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.limits.in_flight import HeldAnswer
from spooled_pipelines.server.core.protobuf import field
from spooled_pipelines.server.services.context import KEY_ELSEWHERE, ServiceContext
from spooled_pipelines.server.services.encoding import job_bytes, queue_stats
from spooled_pipelines.server.services.leases import (
    Consumer,
    JobStream,
    claim,
    complete,
    fail,
    process_jobs,
    renew_lease,
    take_back,
)
from spooled_pipelines.server.services.validation.jobs import new_job
from spooled_pipelines.server.store.requests import ClaimRequest
from spooled_pipelines.wire import limits, spooled_v1


class QueueService:
    """The service of queues: jobs in and out, one by one."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self.complete = partial(complete, context)
        self.fail = partial(fail, context)
        self.renew_lease = partial(renew_lease, context)
        self.process_jobs = partial(process_jobs, context)

    async def enqueue(
        self, caller: Caller, request: spooled_v1.EnqueueRequest
    ) -> spooled_v1.EnqueueResponse:
        job = await self._context.checked(caller, request, partial(new_job, request))
        if await self._context.keys_elsewhere(caller, [request.idempotency_key]):
            raise RefusedError("PERMISSION_DENIED", KEY_ELSEWHERE, reason="queue")
        job_id, created = await self._context.store.enqueue(caller.organization, job)
        return spooled_v1.EnqueueResponse(job_id=job_id, created=created)

    async def dequeue(self, caller: Caller, request: spooled_v1.DequeueRequest) -> bytes:
        asked = ClaimRequest(
            validation.queue_name(request.queue_name),
            validation.worker_id(request.worker_id),
            validation.lease_ms("lease_duration_secs", request.lease_duration_secs),
            validation.batch_size(request.batch_size, request.limit),
            lease_id=validation.lease_id(request.lease_id),
        )
        await take_back(self._context, caller, request)
        jobs = await claim(self._context, caller, asked)
        return b"".join(field(1, job_bytes(job, caller.organization)) for job in jobs)

    async def get_job(self, caller: Caller, request: spooled_v1.GetJobRequest) -> bytes:
        record = await self._context.store.job(caller.organization, request.job_id)
        return field(1, job_bytes(record, caller.organization))

    async def get_queue_stats(
        self, caller: Caller, request: spooled_v1.GetQueueStatsRequest
    ) -> spooled_v1.GetQueueStatsResponse:
        queue_name = validation.queue_name(request.queue_name)
        record = await self._context.store.queue(caller.organization, queue_name)
        return queue_stats(queue_name, record, self._context.clock.now())

    async def stream_jobs(
        self, caller: Caller, request: spooled_v1.StreamJobsRequest
    ) -> AsyncIterator[HeldAnswer]:
        consumer = Consumer(
            validation.queue_name(request.queue_name), validation.worker_id(request.worker_id)
        )
        lease = validation.lease_ms("lease_duration_secs", request.lease_duration_secs)
        pusher = JobStream(
            self._context, caller, consumer, lease_ms=lease, max_concurrent=limits.DEQUEUE_MAX
        )
        async with contextlib.aclosing(pusher.jobs()) as jobs:
            async for job, share in jobs:
                answer = HeldAnswer(job_bytes(job, caller.organization), share)
                del job, share
                yield answer
                del answer
