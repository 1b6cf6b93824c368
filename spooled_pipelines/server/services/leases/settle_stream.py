"""Settle: the outcomes of many jobs in one message, answered after its commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from spooled_pipelines.server.auth import Caller, authorize_queues
from spooled_pipelines.server.core import validation
from spooled_pipelines.server.core.errors import RefusedError, invalid
from spooled_pipelines.server.core.jobs.settlements import Completion, Settlement
from spooled_pipelines.server.services.context import ServiceContext
from spooled_pipelines.server.services.leases.chunk_calls import settle_chunk
from spooled_pipelines.server.services.leases.outcomes import incomplete, refused, settled
from spooled_pipelines.server.services.validation.structs import check_object
from spooled_pipelines.wire import limits
from spooled_pipelines.wire.batch_v1 import JobOutcome, SettleRequest, SettleResponse

# Messages of one stream that are done at the same time, so that one sync serves several.
_IN_FLIGHT = 4

_WITHOUT_RESULT = Completion(None)

_Asked = Settlement | RefusedError


async def settle(
    context: ServiceContext, caller: Caller, requests: AsyncIterator[SettleRequest]
) -> AsyncIterator[SettleResponse]:
    """Yield the answers of one stream, in the order of its messages."""
    answers: asyncio.Queue[asyncio.Future[SettleResponse] | None] = asyncio.Queue(_IN_FLIGHT)
    reading = asyncio.ensure_future(_read(context, caller, requests, answers))
    try:
        while (answer := await answers.get()) is not None:
            yield await answer
        # The caller sees what reading failed with, such as a malformed message.
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _read(
    context: ServiceContext,
    caller: Caller,
    requests: AsyncIterator[SettleRequest],
    answers: asyncio.Queue[asyncio.Future[SettleResponse] | None],
) -> None:
    try:
        async for request in requests:
            # Begun in the order of the messages; a stream that was cut needs no answer.
            answer = asyncio.ensure_future(_answer(context, caller, request))
            answer.add_done_callback(_seen)
            await answers.put(answer)
    finally:
        await answers.put(None)


def _seen(answer: asyncio.Future[SettleResponse]) -> None:
    if not answer.cancelled():
        answer.exception()


async def _answer(
    context: ServiceContext, caller: Caller, request: SettleRequest
) -> SettleResponse:
    _check_size("outcomes", len(request.outcomes), limits.SETTLED_PER_MESSAGE_MAX)
    jobs = sum(len(chunk.job_ids) for chunk in request.chunks)
    _check_size("chunks", jobs + len(request.outcomes), limits.CHUNK_ROWS_MAX)
    # At the same time, so that one sync serves several.
    chunks = await asyncio.gather(
        *(settle_chunk(context, caller, chunk) for chunk in request.chunks)
    )
    if not request.outcomes:
        return SettleResponse(chunks=chunks)
    asked = [await _checked(context, caller, outcome) for outcome in request.outcomes]
    settlements = [one for one in asked if isinstance(one, Settlement)]
    done = iter(await context.store.settle(caller.organization, settlements))
    answers = [
        refused(one) if isinstance(one, RefusedError) else settled(one.act, next(done))
        for one in asked
    ]
    return SettleResponse(settled=answers, chunks=chunks)


def _check_size(name: str, entries: int, most: int) -> None:
    if entries > most:
        raise invalid(
            f"{name} has {entries} entries, and at most {most} are allowed in one message"
        )


async def _checked(context: ServiceContext, caller: Caller, outcome: JobOutcome) -> _Asked:
    try:
        if caller.queues is not None:
            await authorize_queues(context.store, caller, outcome)
        return await context.checked(caller, outcome, partial(_settlement, outcome))
    except RefusedError as refusal:
        return refusal


def _settlement(outcome: JobOutcome) -> Settlement:
    holder = validation.lease_holder(
        outcome.job_id, outcome.worker_id, outcome.lease_id, lease_required=True
    )
    if outcome.WhichOneof("outcome") == "completed":
        completed = outcome.completed
        if not completed.HasField("result"):
            return Settlement(holder, _WITHOUT_RESULT)
        result = completed.result
        check_object("result", result)
        return Settlement(holder, Completion(result))
    return Settlement(holder, incomplete(outcome))
