"""spooled_pipelines.v1.QueueAdminService."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from spooled_pipelines.server.auth import Caller
from spooled_pipelines.server.core import validation
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.jobs.rules import HELD
from spooled_pipelines.server.core.protobuf import field
from spooled_pipelines.server.services.context import ServiceContext
from spooled_pipelines.server.services.encoding import (
    job_bytes,
    listed_queue,
    listed_worker,
    page_message,
    queue_limits,
    queue_throttle,
    timestamp,
)
from spooled_pipelines.server.store.requests import (
    NEWEST,
    ControlChange,
    DeadLetters,
    JobListing,
    QueueSelector,
)
from spooled_pipelines.wire import limits, queue_admin_v1


class QueueAdminService:
    """The service of operators: pause, limit and purge queues, and retry dead letters."""

    def __init__(
        self, context: ServiceContext, refresh_names: Callable[[], Awaitable[None]]
    ) -> None:
        self._store = context.store
        self._refresh_names = refresh_names
        self._clock = context.clock

    async def pause_queue(
        self, caller: Caller, request: queue_admin_v1.PauseQueueRequest
    ) -> queue_admin_v1.PauseQueueResponse:
        queue_name = validation.queue_name(request.queue_name)
        asked = validation.request_id(request.request_id)
        change = ControlChange(paused=True, request_id=asked)
        await self._store.set_control(caller.organization, queue_name, change)
        return queue_admin_v1.PauseQueueResponse()

    async def resume_queue(
        self, caller: Caller, request: queue_admin_v1.ResumeQueueRequest
    ) -> queue_admin_v1.ResumeQueueResponse:
        queue_name = validation.queue_name(request.queue_name)
        asked = validation.request_id(request.request_id)
        change = ControlChange(paused=False, request_id=asked)
        await self._store.set_control(caller.organization, queue_name, change)
        return queue_admin_v1.ResumeQueueResponse()

    async def rename_queue(
        self, caller: Caller, request: queue_admin_v1.RenameQueueRequest
    ) -> queue_admin_v1.RenameQueueResponse:
        queue_name = validation.queue_name(request.queue_name)
        new_name = validation.queue_name(request.new_name, "new_name")
        if caller.queues is not None and new_name not in caller.queues:
            message = f"this API key may not touch a queue named {new_name!r}"
            raise RefusedError("PERMISSION_DENIED", message, reason="queue")
        asked = validation.request_id(request.request_id)
        await self._store.rename_queue(caller.organization, queue_name, new_name, asked)
        await self._refresh_names()
        return queue_admin_v1.RenameQueueResponse()

    async def set_queue_limits(
        self, caller: Caller, request: queue_admin_v1.SetQueueLimitsRequest
    ) -> queue_admin_v1.SetQueueLimitsResponse:
        queue_name = validation.queue_name(request.queue_name)
        asked = validation.queue_limits(request.limits)
        change = ControlChange(limits=asked, request_id=validation.request_id(request.request_id))
        kept = await self._store.set_control(caller.organization, queue_name, change)
        return queue_admin_v1.SetQueueLimitsResponse(limits=queue_limits(kept.limits))

    async def get_queue_limits(
        self, caller: Caller, request: queue_admin_v1.GetQueueLimitsRequest
    ) -> queue_admin_v1.GetQueueLimitsResponse:
        queue_name = validation.queue_name(request.queue_name)
        limits, paused, throttle = await self._store.control(caller.organization, queue_name)
        return queue_admin_v1.GetQueueLimitsResponse(
            limits=queue_limits(limits), paused=paused, throttle=queue_throttle(throttle)
        )

    async def list_queues(
        self, caller: Caller, request: queue_admin_v1.ListQueuesRequest
    ) -> queue_admin_v1.ListQueuesResponse:
        queues = caller.among(validation.optional_queue_name(request.queue_name))
        after = validation.optional_queue_name(request.page_token)
        size = validation.page_size(request.page_size)
        page = await self._store.list_queues(caller.organization, queues, after, size)
        now = self._clock.now()
        return queue_admin_v1.ListQueuesResponse(
            queues=[listed_queue(queue, now) for queue in page.queues], next_page_token=page.after
        )

    async def list_workers(
        self, caller: Caller, request: queue_admin_v1.ListWorkersRequest
    ) -> queue_admin_v1.ListWorkersResponse:
        queues = caller.among(validation.optional_queue_name(request.queue_name))
        size = validation.page_size(request.page_size)
        workers = await self._store.list_workers(caller.organization, queues, size)
        now = self._clock.now()
        return queue_admin_v1.ListWorkersResponse(
            workers=[listed_worker(worker, now) for worker in workers]
        )

    async def list_jobs(self, caller: Caller, request: queue_admin_v1.ListJobsRequest) -> bytes:
        since, until = validation.period(request)
        listing = JobListing(
            caller.among(validation.optional_queue_name(request.queue_name)),
            validation.statuses(request.statuses),
            request.waiting,
            validation.text("text", request.text, limits.ERROR_MAX),
            since,
            until,
            validation.page_token(request.page_token) or NEWEST,
            validation.page_size(request.page_size),
        )
        page = await self._store.jobs(caller.organization, listing)
        # A ListJobsResponse, of ListedJobs.
        found = []
        for job in page.jobs:
            listed = field(1, job_bytes(job, caller.organization))
            # One that its key's limit holds back is due at no known time.
            if job.due_at not in (None, HELD):
                listed += field(2, timestamp(job.due_at).SerializeToString())
            found.append(listed)
        return page_message(found, page.after)

    async def purge_queue(
        self, caller: Caller, request: queue_admin_v1.PurgeQueueRequest
    ) -> queue_admin_v1.PurgeQueueResponse:
        queue_name = validation.queue_name(request.queue_name)
        selector = QueueSelector(queue_name, validation.request_id(request.request_id))
        outcome = await self._store.cancel(caller.organization, selector)
        return queue_admin_v1.PurgeQueueResponse(cancelled=outcome.cancelled)

    async def list_dead_letters(
        self, caller: Caller, request: queue_admin_v1.ListDeadLettersRequest
    ) -> bytes:
        queue_name = validation.queue_name(request.queue_name)
        after = validation.page_token(request.page_token)
        dead_letters = DeadLetters(queue_name, after, validation.page_size(request.page_size))
        page = await self._store.jobs(caller.organization, dead_letters)
        # A ListDeadLettersResponse.
        return page_message((job_bytes(job, caller.organization) for job in page.jobs), page.after)

    async def redrive_dead_letters(
        self, caller: Caller, request: queue_admin_v1.RedriveDeadLettersRequest
    ) -> queue_admin_v1.RedriveDeadLettersResponse:
        queue_name = validation.queue_name(request.queue_name)
        contains = validation.text("error_contains", request.error_contains, limits.ERROR_MAX)
        selector = QueueSelector(queue_name, validation.request_id(request.request_id))
        outcome = await self._store.retry(caller.organization, selector, contains)
        return queue_admin_v1.RedriveDeadLettersResponse(redriven=outcome.retried)
