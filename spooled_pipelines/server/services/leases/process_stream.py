"""ProcessJobs: claims and settles over one stream, refusals in band, jobs pushed as they come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from spooled_pipelines.server.auth import Caller, authorize_queues
from spooled_pipelines.server.core import validation
from spooled_pipelines.server.core.errors import RefusedError, invalid
from spooled_pipelines.server.core.jobs.records import JobRecord
from spooled_pipelines.server.core.limits.in_flight import HeldAnswer, Share
from spooled_pipelines.server.core.protobuf import field
from spooled_pipelines.server.services.context import ServiceContext
from spooled_pipelines.server.services.encoding import job_bytes
from spooled_pipelines.server.services.heartbeats import heartbeat
from spooled_pipelines.server.services.leases import lease_calls
from spooled_pipelines.server.services.leases.claiming import Consumer, give_back, take_back
from spooled_pipelines.server.services.leases.job_stream import JobStream
from spooled_pipelines.wire.spooled_v1 import (
    DequeueRequest,
    ErrorResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    ProcessRequest,
    ProcessResponse,
    SubscribeRequest,
)

# Refusals that end the stream, since nothing more can go over it.
_FATAL = ("UNAVAILABLE", "INTERNAL")
_CONCURRENT_DEFAULT, _CONCURRENT_MAX = 10, 1_000
_SUBSCRIPTIONS_MAX = 100
# Answers that wait for the client to read them; beyond that no further request is read.
_UNREAD_MAX = 100
_JOB_FIELD = 1

_End = RefusedError | None


async def process_jobs(
    context: ServiceContext, caller: Caller, requests: AsyncIterator[ProcessRequest]
) -> AsyncIterator[bytes | HeldAnswer]:
    """Yield answers, in the order of the requests, and jobs, until the requests end."""
    conversation = _Conversation(context, caller)
    reading = asyncio.ensure_future(conversation.read(requests))
    try:
        while (answer := await conversation.answers.get()) is not None:
            if isinstance(answer, RefusedError):
                raise answer
            yield answer
        # The caller sees what reading failed with, such as a malformed message.
        await reading
    finally:
        await conversation.close(reading)


class _Conversation:
    def __init__(self, context: ServiceContext, caller: Caller) -> None:
        self.answers: asyncio.Queue[bytes | HeldAnswer | _End] = asyncio.Queue(_UNREAD_MAX)
        self._pushers: dict[tuple[str, Consumer], tuple[JobStream, asyncio.Future[None]]] = {}
        self._context = context
        self._caller = caller

    async def read(self, requests: AsyncIterator[ProcessRequest]) -> None:
        """Answer each request in turn, and note the end."""
        try:
            async for request in requests:
                await self._handle(request)
        finally:
            # Also after a failure: the reader of answers must not wait for ever.
            with contextlib.suppress(asyncio.CancelledError):
                await self.answers.put(None)

    async def close(self, reading: asyncio.Future[None]) -> None:
        """End everything that runs for this stream."""
        running = [reading, *(task for _, task in self._pushers.values())]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _handle(self, request: ProcessRequest) -> None:
        try:
            answer = await self._answer(request)
        except RefusedError as refusal:
            if refusal.code in _FATAL:
                await self.answers.put(refusal)
                return
            answer = ProcessResponse(
                error=ErrorResponse(code=lease_calls.code_in_band(refusal), message=str(refusal))
            )
        if answer is not None:
            await self.answers.put(answer.SerializeToString())

    async def _answer(self, request: ProcessRequest) -> ProcessResponse | None:
        context, caller = self._context, self._caller
        kind = request.WhichOneof("request")
        if kind is not None:
            await authorize_queues(context.store, caller, getattr(request, kind))
        if kind == "complete":
            completed = await lease_calls.complete(context, caller, request.complete)
            return ProcessResponse(complete=completed)
        if kind == "fail":
            return ProcessResponse(fail=await lease_calls.fail(context, caller, request.fail))
        if kind == "renew_lease":
            renewed = await lease_calls.renew_lease(context, caller, request.renew_lease)
            return ProcessResponse(renew_lease=renewed)
        if kind == "heartbeat":
            return ProcessResponse(heartbeat_ack=await self._heartbeat(request.heartbeat))
        if kind == "dequeue":
            await take_back(context, caller, request.dequeue)
            self._dequeue(request.dequeue)
            return None
        if kind == "subscribe":
            self._subscribe(request.subscribe)
            return None
        raise invalid("the request is empty: set one of dequeue, complete, fail, renew_lease")

    def _dequeue(self, request: DequeueRequest) -> None:
        """Push up to batch_size jobs, now or as they come, in place of what is still open."""
        consumer = _consumer(request)
        lease = validation.lease_ms("lease_duration_secs", request.lease_duration_secs)
        count = validation.batch_size(request.batch_size, request.limit)
        asked = self._pusher("dequeue", consumer, lease, None)
        asked.ask(count, lease, validation.lease_id(request.lease_id))

    def _subscribe(self, request: SubscribeRequest) -> None:
        """Push jobs while fewer than max_concurrent of them are unsettled."""
        consumer = _consumer(request)
        lease = validation.lease_ms("lease_duration_secs", request.lease_duration_secs)
        concurrent = request.max_concurrent or _CONCURRENT_DEFAULT
        validation.integer("max_concurrent", concurrent, 1, _CONCURRENT_MAX)
        self._pusher("subscribe", consumer, lease, concurrent).resize(concurrent, lease)

    async def _heartbeat(self, request: HeartbeatRequest) -> HeartbeatResponse:
        try:
            return await heartbeat(self._context, self._caller, request)
        except RefusedError as refusal:
            # A worker that subscribed here is alive, whether it was registered or not.
            here = any(consumer.worker_id == request.worker_id for _, consumer in self._pushers)
            if refusal.code != "NOT_FOUND" or not here:
                raise
            return HeartbeatResponse(acknowledged=True)

    def _pusher(
        self, kind: str, consumer: Consumer, lease_ms: int, max_concurrent: int | None
    ) -> JobStream:
        known = self._pushers.get((kind, consumer))
        if known is not None:
            return known[0]
        if len(self._pushers) >= _SUBSCRIPTIONS_MAX:
            raise invalid(
                f"this stream takes from {_SUBSCRIPTIONS_MAX} queues already; open another stream"
            )
        pusher = JobStream(
            self._context, self._caller, consumer, lease_ms=lease_ms, max_concurrent=max_concurrent
        )
        self._pushers[kind, consumer] = (pusher, asyncio.ensure_future(self._push(pusher)))
        return pusher

    async def _push(self, pusher: JobStream) -> None:
        try:
            async with contextlib.aclosing(pusher.jobs()) as jobs:
                async for job, share in jobs:
                    await self._put_job(job, share)
                    # Not kept until the next one comes.
                    del job, share
        except RefusedError as refusal:
            await self.answers.put(refusal)

    async def _put_job(self, job: JobRecord, share: Share) -> None:
        answer = field(_JOB_FIELD, job_bytes(job, self._caller.organization))
        try:
            await self.answers.put(HeldAnswer(answer, share))
        except asyncio.CancelledError:
            give_back(self._context, self._caller, [job])
            raise


def _consumer(request: DequeueRequest | SubscribeRequest) -> Consumer:
    return Consumer(
        validation.queue_name(request.queue_name), validation.worker_id(request.worker_id)
    )
