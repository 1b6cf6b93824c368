"""The asyncio client, with a method for each call of a Spooled server."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from spooled_pipelines.batch.aio.payload_schemas import AsyncPayloadSchemas
from spooled_pipelines.batch.options.row_options import NEEDS_BACKOFF, NEEDS_EXPIRY
from spooled_pipelines.client.aio.batches import AsyncBatchCalls
from spooled_pipelines.client.aio.job_lists import AsyncJobLists
from spooled_pipelines.client.aio.process import AsyncProcessStream
from spooled_pipelines.client.aio.queues import AsyncQueueCalls
from spooled_pipelines.client.aio.streams import AsyncJobStream
from spooled_pipelines.client.aio.workers import AsyncWorkerCalls
from spooled_pipelines.client.job_ref import JobRef, completed_by_us, job_ref
from spooled_pipelines.client.process_responses import unsuccessful
from spooled_pipelines.client.settings import resolve_settings
from spooled_pipelines.errors import ConflictError
from spooled_pipelines.retry_backoff import RetryBackoffOption
from spooled_pipelines.rpc import decode, requests, tracing, validation
from spooled_pipelines.rpc.aio.closing import AsyncClosing
from spooled_pipelines.rpc.aio.connection import AsyncConnection
from spooled_pipelines.rpc.aio.runtime import in_thread
from spooled_pipelines.rpc.retry import RetryPolicy
from spooled_pipelines.rpc.settings import TLS, BatchExtension, ConnectionSettings
from spooled_pipelines.rpc.struct import from_struct
from spooled_pipelines.rpc.unanswered_claims import UnansweredClaims
from spooled_pipelines.types import (
    EnqueueResult,
    FailResult,
    Job,
    JobAttempt,
    QueueStats,
)
from spooled_pipelines.wire import batch_v1, spooled_v1
from spooled_pipelines.wire.limits import NO_RETRIES
from spooled_pipelines.wire.methods import BATCH, QUEUE
from spooled_pipelines.wire.well_known import Timestamp


class AsyncSpooledClient(
    AsyncBatchCalls, AsyncJobLists, AsyncQueueCalls, AsyncWorkerCalls, AsyncClosing
):
    """A client of a Spooled server, in plain values and errors of one tree.

    Takes what `connect` takes, or finished `ConnectionSettings`. The connection is opened by the
    first call; if an `embedded:` file has no server yet, one is started at once, which takes some
    tenths of a second. Every method raises `SpooledError`s only; those that talk to the server
    raise `UnavailableError`, `DeadlineExceededError`, `AuthenticationError`,
    `PermissionDeniedError`, `RateLimitError`, `QuotaExceededError` and `ServerError` besides what
    they name themselves.
    """

    def __init__(
        self,
        address: str | ConnectionSettings | None = None,
        *,
        api_key: str | None = None,
        tls: TLS | bool | None = None,
        timeout_seconds: float = 30.0,
        retry: RetryPolicy | None = None,
        batch_extension: BatchExtension = "auto",
        rate_limit: float | None = None,
    ) -> None:
        self._settings, self._file = resolve_settings(
            address,
            api_key=api_key,
            tls=tls,
            timeout_seconds=timeout_seconds,
            retry=retry,
            batch_extension=batch_extension,
            rate_limit=rate_limit,
        )
        on_away = None if self._file is None else self._file.take_over_in_background
        self._connection = AsyncConnection(self._settings, on_away)
        self._schemas = AsyncPayloadSchemas(self._connection)
        self.claims = UnansweredClaims()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.name!r})"

    @property
    def settings(self) -> ConnectionSettings:
        """The settings of the connection."""
        return self._settings

    @property
    def connection(self) -> AsyncConnection:
        """The connection below this client, for what is built on it."""
        return self._connection

    async def enqueue(
        self,
        queue_name: str,
        payload: Mapping[str, Any] | str,
        *,
        priority: int = 0,
        max_retries: int | None = None,
        timeout_seconds: int | None = None,
        retry_backoff: RetryBackoffOption | None = None,
        expires_at: datetime | None = None,
        ttl: float | timedelta | str | None = None,
        scheduled_at: datetime | None = None,
        idempotency_key: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> EnqueueResult:
        """Enqueue one job; safe to retry if the response is lost.

        Args:
            queue_name: 1 to 100 letters, digits, `.`, `_`, `-`.
            payload: a mapping, or the text of a JSON object; at most 1 MiB as JSON.
            priority: -100 to 100; higher is taken first.
            max_retries: 0 to 100; None: the server's default (3). For 0 the server needs the batch
                extension, since `spooled.v1` cannot say it.
            timeout_seconds: how long a worker may take, 1 to 86,400; None or 0: the default (300).
            retry_backoff: how long the job waits before its retries: seconds, a list of seconds for
                each retry in turn, or a text such as ``"5s"`` or ``"exponential 5s cap 10m jitter
                20%"``; None: 1, 2, 4 minutes and so on. It needs the batch extension.
            expires_at: if it has not started by then it is cancelled; an aware time. `ttl` is the
                same from now on: seconds, a timedelta or a text such as ``"2h"``. Both need the
                batch extension.
            scheduled_at: not before this (aware) time.
            idempotency_key: a job of the organization with the same key is not made again; None:
                a fresh one, so that a call whose answer was lost is repeated without harm.
            tags: text by text, at most 64 KiB.

        Raises:
            LossyValueError: the payload holds what a worker would not get unchanged.
            InvalidArgumentError: an argument is outside its limits.
        """
        with tracing.sending(validation.queue_name(queue_name)):
            request = requests.enqueue(
                queue_name,
                payload,
                idempotency_key=uuid.uuid4().hex if idempotency_key is None else idempotency_key,
                priority=priority,
                max_retries=max_retries,
                timeout_seconds=timeout_seconds,
                scheduled_at=scheduled_at,
                tags=tracing.with_context(validation.text_map(tags, "tags")),
            )
            backoff = validation.retry_backoff(retry_backoff)
            moment = validation.expiry(ttl, expires_at)
            expiry = None if moment is None else validation.timestamp(moment, "expires_at")
            response = await self._send_job(request, backoff, expiry)
        if idempotency_key is None:
            # Nobody else has this key: a duplicate is the job of an earlier attempt.
            return EnqueueResult(job_id=response.job_id, created=True)
        return decode.enqueue_result_from(response)

    async def dequeue(
        self, queue_name: str, worker_id: str, *, batch_size: int = 1, lease_seconds: int = 30
    ) -> list[Job]:
        """Claim up to `batch_size` (1 to 100) jobs; return an empty list if none is due.

        Each is this worker's for `lease_seconds` (5 to 3600); see `renew_lease`.
        """
        request = requests.dequeue(
            queue_name, worker_id, batch_size=batch_size, lease_seconds=lease_seconds
        )
        # Not repeatable: the jobs of a lost response go back with the next call.
        with self.claims.asking(request):
            response = await self._connection.unary(QUEUE["Dequeue"], request, repeatable=False)
        schemas = await self._schemas.of(response.jobs)
        return [decode.job_from(job, schemas) for job in response.jobs]

    async def complete(
        self,
        job: Job | str,
        worker_id: str | None = None,
        result: Mapping[str, Any] | str | None = None,
        *,
        lease_id: str | None = None,
    ) -> None:
        """Complete a job. Worker and lease are taken from a `Job`.

        Raises:
            LeaseLostError: the job is no longer this worker's: drop the result.
            ConflictError: the job is settled already.
            NotFoundError: there is no such job.
            LossyValueError, InvalidArgumentError: the result cannot be sent.
        """
        held = job_ref(job, worker_id, lease_id)
        request = requests.complete(held.job_id, held.worker_id, result, held.lease_id)
        try:
            response = await self._connection.unary(
                QUEUE["Complete"], request, repeatable=held.has_lease
            )
        except ConflictError as error:
            if error.details.get("attempts") == 1 or not await self._is_done(held, request):
                raise
            return
        if not response.success:
            raise unsuccessful("complete", held.job_id)

    async def fail(
        self,
        job: Job | str,
        error: str,
        worker_id: str | None = None,
        *,
        retry: bool = True,
        lease_id: str | None = None,
    ) -> FailResult:
        """Fail a job; return whether it will be retried, and when.

        If the response was lost and the repeated call finds the failure recorded, it raises
        `LeaseLostError`: either way the job is no longer this worker's.

        Args:
            job: a `Job` (worker and lease are taken from it), or an id.
            error: why, kept with the job; above 2048 characters it is cut.
            worker_id: who holds it.
            retry: False sends it to the dead letters at once.
            lease_id: the lease that it is held by.

        Raises:
            LeaseLostError: the job is no longer this worker's.
            ConflictError: the job is settled already.
            NotFoundError: there is no such job.
        """
        held = job_ref(job, worker_id, lease_id)
        request = requests.fail(
            held.job_id, held.worker_id, error, retry=retry, lease_id=held.lease_id
        )
        response = await self._connection.unary(QUEUE["Fail"], request, repeatable=held.has_lease)
        if not response.success:
            raise unsuccessful("fail", held.job_id)
        return decode.fail_result_from(response)

    async def renew_lease(
        self,
        job: Job | str,
        worker_id: str | None = None,
        *,
        lease_seconds: int = 30,
        lease_id: str | None = None,
    ) -> datetime:
        """Keep a job for `lease_seconds` from now; return when the lease ends.

        Raises:
            LeaseLostError: too late, the job is no longer this worker's.
            NotFoundError: there is no such job.
        """
        held = job_ref(job, worker_id, lease_id)
        request = requests.renew_lease(
            held.job_id, held.worker_id, lease_seconds=lease_seconds, lease_id=held.lease_id
        )
        response = await self._connection.unary(
            QUEUE["RenewLease"], request, repeatable=held.has_lease
        )
        if not response.success:
            raise unsuccessful("renew_lease", held.job_id)
        return decode.time_from(response.new_expires_at)

    async def get_job(self, job_id: str) -> Job:
        """Return a job as it is now.

        Raises:
            NotFoundError: there is no such job, or it is another organization's.
        """
        request = requests.get_job(job_id)
        response = await self._connection.unary(QUEUE["GetJob"], request, repeatable=True)
        return decode.job_from(response.job, await self._schemas.of([response.job]))

    async def attempts(self, job_id: str) -> list[JobAttempt]:
        """Return every attempt at a job, oldest first, also those before its batch was retried.

        Raises:
            NotFoundError: there is no such job.
            ServerError: the server does not have the batch extension, and keeps no attempts.
        """
        request = batch_v1.ListAttemptsRequest(job_id=job_id)
        response = await self._connection.unary(BATCH["ListAttempts"], request, repeatable=True)
        return [decode.attempt_from(attempt) for attempt in response.attempts]

    async def queue_stats(self, queue_name: str) -> QueueStats:
        """Return the number of a queue's jobs by status; all are 0 for an unknown queue."""
        request = requests.queue_stats(queue_name)
        response = await self._connection.unary(QUEUE["GetQueueStats"], request, repeatable=True)
        return decode.queue_stats_from(response)

    def stream_jobs(
        self, queue_name: str, worker_id: str, *, lease_seconds: int = 30
    ) -> AsyncJobStream:
        """Return a stream of due jobs, claimed for this worker; iterate over it, then close it."""
        request = requests.stream_jobs(queue_name, worker_id, lease_seconds=lease_seconds)
        stream = self._connection.stream(QUEUE["StreamJobs"], request)
        return AsyncJobStream(stream, self._schemas)

    def process_jobs(self) -> AsyncProcessStream:
        """Open a bidirectional stream on which jobs are claimed, renewed and settled."""
        conversation = self._connection.bidi_stream(QUEUE["ProcessJobs"])
        return AsyncProcessStream(conversation, self._settings, self._schemas)

    async def wait_for_ready(self, timeout: float = 10.0) -> None:
        """Return once there is a connection; the key's permissions show at the first call.

        Raises:
            UnavailableError: there was none within `timeout` seconds; the message says why.
        """
        await self._connection.wait_for_ready(timeout)

    async def close(self) -> None:
        """End every stream and close the connection. May be repeated.

        The last client of an `embedded:` file in a process that serves it ends that server, and
        another process that uses the file takes over.
        """
        await self._connection.close()
        file, self._file = self._file, None
        if file is not None:
            await in_thread(file.release)

    _close = close

    async def _send_job(
        self,
        request: spooled_v1.EnqueueRequest,
        retry_backoff: str,
        expires_at: Timestamp | None,
    ) -> Any:
        needs = "max_retries=0 (no retries)" if request.max_retries == NO_RETRIES else ""
        needs = NEEDS_BACKOFF if retry_backoff else needs
        needs = needs if expires_at is None else NEEDS_EXPIRY
        if not needs:
            return await self._connection.unary(QUEUE["Enqueue"], request, repeatable=True)
        (await self.batch_backend()).require("keeps_batches", needs)
        extended = batch_v1.EnqueueJobRequest(
            job=request, retry_backoff=retry_backoff, expires_at=expires_at
        )
        return await self._connection.unary(BATCH["EnqueueJob"], extended, repeatable=True)

    async def _is_done(self, held: JobRef, request: spooled_v1.CompleteRequest) -> bool:
        job = await self.get_job(held.job_id)
        return completed_by_us(job, held, from_struct(request.result))
