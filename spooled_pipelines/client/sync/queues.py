# Generated from spooled_pipelines/client/aio/queues.py by `make generate`: do not edit.
"""The client's methods for whole queues: the batch extension's QueueAdminService."""

from __future__ import annotations

import uuid
from typing import Any

from spooled_pipelines.batch.sync.payload_schemas import PayloadSchemas
from spooled_pipelines.rpc import decode, validation
from spooled_pipelines.rpc.sync.connection import Connection
from spooled_pipelines.rpc.sync.paging import paged
from spooled_pipelines.types import Job, Queue, QueueLimits, WorkerState
from spooled_pipelines.wire import queue_admin_v1
from spooled_pipelines.wire.limits import PAGE_JOBS_MAX, SETTLED_PER_MESSAGE_MAX
from spooled_pipelines.wire.methods import QUEUE_ADMIN

# A queue of millions takes its time; the server does it in steps.
_LONG_SECONDS = 300.0


class QueueCalls:
    """The methods of a client for whole queues; `ServerError` without the batch extension."""

    _connection: Connection
    _schemas: PayloadSchemas

    def queues(self, queue_name: str | None = None, *, limit: int = 1_000) -> list[Queue]:
        """Return the first `limit` queues that this key may see, by name, with counters and limits.

        Args:
            queue_name: only this queue, if there is one.
            limit: the largest number of queues.

        Raises:
            InvalidArgumentError: `limit` is below 1.
        """
        if queue_name is not None:
            validation.queue_name(queue_name)
        validation.limit(limit)
        request = queue_admin_v1.ListQueuesRequest(queue_name=queue_name or "")
        queues = paged(self._connection, QUEUE_ADMIN["ListQueues"], request, "queues", limit)
        return [decode.queue_from(queue) for queue in queues]

    def workers(self, queue_name: str | None = None, *, limit: int = 1_000) -> list[WorkerState]:
        """Return the workers that were seen last, the latest first.

        Args:
            queue_name: only those of this queue.
            limit: the largest number of workers, up to 1,000.

        Raises:
            InvalidArgumentError: `limit` is not from 1 to 1,000.
        """
        if queue_name is not None:
            validation.queue_name(queue_name)
        validation.limit(limit, PAGE_JOBS_MAX)
        request = queue_admin_v1.ListWorkersRequest(queue_name=queue_name or "", page_size=limit)
        answer = self._connection.unary(QUEUE_ADMIN["ListWorkers"], request, repeatable=True)
        return [decode.worker_from(worker) for worker in answer.workers]

    def pause_queue(self, queue_name: str) -> None:
        """Hand out no more jobs of a queue; running jobs may settle. May be repeated."""
        self._control("PauseQueue", queue_name)

    def resume_queue(self, queue_name: str) -> None:
        """Hand out jobs of a queue again. May be repeated."""
        self._control("ResumeQueue", queue_name)

    def rename_queue(self, queue_name: str, new_name: str) -> None:
        """Give a queue another name; what it has, and what runs, stays as it is.

        The earlier name goes on to mean it, to work on it and to enqueue, and rows that are there
        do not become new jobs by either name. May be repeated.

        Raises:
            NotFoundError: there is no such queue.
            ConflictError: another queue has or had the new name.
        """
        request = queue_admin_v1.RenameQueueRequest(
            queue_name=validation.queue_name(queue_name),
            new_name=validation.queue_name(new_name),
            request_id=uuid.uuid4().hex,
        )
        self._connection.unary(QUEUE_ADMIN["RenameQueue"], request, repeatable=True)

    def set_queue_limits(
        self,
        queue_name: str,
        *,
        jobs_per_second: float | None = None,
        burst: int | None = None,
        max_in_flight: int | None = None,
    ) -> QueueLimits:
        """Limit what is handed out of a queue, to all workers together; return the limits.

        They replace the limits before: what is not given is not limited. May be repeated.

        Args:
            queue_name: the queue; it may have no job yet.
            jobs_per_second: in any T seconds at most ``jobs_per_second * T + burst`` jobs go out.
            burst: how many may go out at once after a quiet time; by default a tenth of a second's
                worth, and at least 1.
            max_in_flight: the largest number of jobs of the queue that run at any time.

        Raises:
            InvalidArgumentError: a number out of range, or a burst without a rate.
        """
        validation.queue_limits(jobs_per_second, burst, max_in_flight)
        limits = queue_admin_v1.QueueLimits(
            jobs_per_second=jobs_per_second, burst=burst, max_in_flight=max_in_flight
        )
        answer = self._control("SetQueueLimits", queue_name, limits=limits)
        return decode.queue_limits_from(answer.limits)

    def queue_limits(self, queue_name: str) -> QueueLimits:
        """Return the limits of a queue, as `set_queue_limits` set them; None for no limit."""
        request = queue_admin_v1.GetQueueLimitsRequest(queue_name=validation.queue_name(queue_name))
        answer = self._connection.unary(QUEUE_ADMIN["GetQueueLimits"], request, repeatable=True)
        return decode.queue_limits_from(answer.limits)

    def purge_queue(self, queue_name: str) -> int:
        """Cancel what is pending now, including jobs that wait for a retry; return how many.

        Scheduled jobs stay.
        """
        answer = self._control("PurgeQueue", queue_name, _LONG_SECONDS)
        return int(answer.cancelled)

    def dead_letters(self, queue_name: str, *, limit: int = 1_000) -> list[Job]:
        """Return the first `limit` dead letters of a queue, with payloads, oldest first."""
        validation.queue_name(queue_name)
        validation.limit(limit)
        request = queue_admin_v1.ListDeadLettersRequest(queue_name=queue_name)
        jobs = paged(self._connection, QUEUE_ADMIN["ListDeadLetters"], request, "jobs", limit)
        return [decode.job_from(job, self._schemas.of([job])) for job in jobs]

    def discard_dead_letters(self, queue_name: str, error_contains: str | None = None) -> int:
        """Cancel a queue's dead letters, which are then out of the way; return how many.

        Args:
            queue_name: the queue.
            error_contains: only jobs whose error contains this text.
        """
        from spooled_pipelines.batch.outcome.dead_letters import discard
        from spooled_pipelines.batch.sync.extension_backend import ExtensionBackend

        request = queue_admin_v1.ListDeadLettersRequest(
            queue_name=validation.queue_name(queue_name)
        )
        jobs = paged(self._connection, QUEUE_ADMIN["ListDeadLetters"], request, "jobs")
        backend = ExtensionBackend(self._connection)
        discarded = 0
        # A call at a time. A page begins behind a number, also if that job is no longer dead then.
        revisions = []
        for job in jobs:
            if (error_contains or "") in job.last_error:
                revisions.append(discard(job.id))
            if len(revisions) == SETTLED_PER_MESSAGE_MAX:
                discarded += backend.revise(revisions)
                revisions = []
        return discarded + backend.revise(revisions)

    def retry_dead_letters(self, queue_name: str, error_contains: str | None = None) -> int:
        """Retry a queue's dead letters, with all their retries; return how many.

        Args:
            queue_name: the queue.
            error_contains: only jobs whose error contains this text.
        """
        answer = self._control(
            "RedriveDeadLetters", queue_name, _LONG_SECONDS, error_contains=error_contains or ""
        )
        return int(answer.redriven)

    def _control(
        self, name: str, queue_name: str, timeout: float | None = None, **fields: Any
    ) -> Any:
        """Call what changes a queue; by the request's id a repeated one has no further effect."""
        method = QUEUE_ADMIN[name]
        request = method.request_class(
            queue_name=validation.queue_name(queue_name), request_id=uuid.uuid4().hex, **fields
        )
        return self._connection.unary(method, request, timeout=timeout, repeatable=True)
