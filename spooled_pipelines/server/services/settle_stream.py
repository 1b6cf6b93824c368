"""Settle: the outcomes of many jobs in one message, answered after its commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import lru_cache, partial

from spooled_pipelines.server.auth import Caller, authorize_queues
from spooled_pipelines.server.core import validation
from spooled_pipelines.server.core.errors import RefusedError, invalid
from spooled_pipelines.server.core.protobuf import field
from spooled_pipelines.server.core.records import (
    Completion,
    FailOutcome,
    Failure,
    GiveBack,
    Settlement,
)
from spooled_pipelines.server.services.context import ServiceContext
from spooled_pipelines.server.services.lease_calls import code_in_band
from spooled_pipelines.server.services.validation.structs import check_object
from spooled_pipelines.wire import limits
from spooled_pipelines.wire.batch_v1 import (
    JobOutcome,
    JobSettled,
    SettleRequest,
)
from spooled_pipelines.wire.spooled_v1 import JobStatus

# Messages of one stream that are done at the same time, so that one sync serves several.
_IN_FLIGHT = 4

# Of a SettleResponse.
_SETTLED_FIELD = 1
_WITHOUT_RESULT = Completion(None)

_Asked = Settlement | RefusedError


async def settle(
    context: ServiceContext, caller: Caller, requests: AsyncIterator[SettleRequest]
) -> AsyncIterator[bytes]:
    """Yield the answers of one stream, serialized, in the order of its messages."""
    answers: asyncio.Queue[asyncio.Future[bytes] | None] = asyncio.Queue(_IN_FLIGHT)
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
    answers: asyncio.Queue[asyncio.Future[bytes] | None],
) -> None:
    try:
        async for request in requests:
            # Begun in the order of the messages; a stream that was cut needs no answer.
            answer = asyncio.ensure_future(_answer(context, caller, request))
            answer.add_done_callback(_seen)
            await answers.put(answer)
    finally:
        await answers.put(None)


def _seen(answer: asyncio.Future[bytes]) -> None:
    if not answer.cancelled():
        answer.exception()


async def _answer(context: ServiceContext, caller: Caller, request: SettleRequest) -> bytes:
    if len(request.outcomes) > limits.SETTLED_PER_MESSAGE_MAX:
        raise invalid(
            f"outcomes has {len(request.outcomes)} entries, and at most "
            f"{limits.SETTLED_PER_MESSAGE_MAX} are allowed in one message"
        )
    asked = [await _checked(context, caller, outcome) for outcome in request.outcomes]
    settlements = [one for one in asked if isinstance(one, Settlement)]
    done = iter(await context.store.settle(caller.organization, settlements))
    return b"".join(
        field(
            _SETTLED_FIELD,
            _settled(one.act, next(done)) if isinstance(one, Settlement) else _refused(one),
        )
        for one in asked
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
    kind = outcome.WhichOneof("outcome")
    if kind == "completed":
        completed = outcome.completed
        if not completed.HasField("result"):
            return Settlement(holder, _WITHOUT_RESULT)
        result = completed.result
        check_object("result", result)
        return Settlement(holder, Completion(result))
    if kind == "failed":
        failed = outcome.failed
        delay: int | None = None
        if failed.HasField("retry_delay_secs"):
            most = limits.RETRY_DELAY_SECONDS_MAX
            delay = validation.integer("retry_delay_secs", failed.retry_delay_secs, 0, most)
        return Settlement(holder, Failure(validation.error(failed.error), not failed.final, delay))
    if kind == "returned":
        return Settlement(holder, GiveBack())
    raise invalid("the outcome is empty: set one of completed, failed, returned")


def _settled(
    act: Completion | Failure | GiveBack, outcome: FailOutcome | RefusedError | None
) -> bytes:
    """Return a JobSettled, serialized."""
    if isinstance(outcome, RefusedError):
        return _refused(outcome)
    if outcome is None:
        done = isinstance(act, Completion)
        return _told(JobStatus.JOB_STATUS_COMPLETED if done else JobStatus.JOB_STATUS_PENDING, 0)
    if not outcome.will_retry:
        return _told(JobStatus.JOB_STATUS_DEADLETTER, 0)
    return _told(JobStatus.JOB_STATUS_PENDING, outcome.delay_seconds)


# Most answers are alike.
@lru_cache(maxsize=128)
def _told(status: JobStatus, delay_seconds: int) -> bytes:
    return JobSettled(status=status, next_retry_delay_secs=delay_seconds).SerializeToString()


def _refused(refusal: RefusedError) -> bytes:
    if refusal.code in ("UNAVAILABLE", "INTERNAL"):
        # It concerns more than this job.
        raise refusal
    told = JobSettled(code=code_in_band(refusal), message=refusal.message)
    return told.SerializeToString()
