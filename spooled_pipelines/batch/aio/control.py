"""What is done to a batch that is there: cancel it, retry it, find its newest generation."""

from __future__ import annotations

from spooled_pipelines.errors import InvalidArgumentError, NotFoundError
from spooled_pipelines.rpc import methods
from spooled_pipelines.rpc.aio.calls import AsyncCalls
from spooled_pipelines.rpc.convert import batch_stats_from, cancel_result_from
from spooled_pipelines.rpc.values import BatchStats, CancelResult
from spooled_pipelines.wire import batch_v1

# A batch of millions takes its time; the server does it in steps.
_CONTROL_SECONDS = 300.0


async def cancel_batch(calls: AsyncCalls, batch_id: str, generation: int | None) -> CancelResult:
    """Cancel what has not started, of generations up to this one."""
    request = batch_v1.CancelBatchRequest(batch_id=batch_id, generation=generation)
    method = methods.BATCH["CancelBatch"]
    answer = await calls.unary(method, request, timeout=_CONTROL_SECONDS, repeatable=True)
    return cancel_result_from(answer)


async def retry_batch(calls: AsyncCalls, batch_id: str, error_contains: str) -> int:
    """Put dead letters back into the queue; returns how many."""
    request = batch_v1.RetryBatchRequest(batch_id=batch_id, error_contains=error_contains)
    method = methods.BATCH["RetryBatch"]
    answer = await calls.unary(method, request, timeout=_CONTROL_SECONDS, repeatable=True)
    retried: int = answer.retried
    return retried


async def newest_generation(calls: AsyncCalls, batch_id: str) -> BatchStats | None:
    """Where a batch stands; None where there is none."""
    request = batch_v1.GetBatchStatsRequest(batch_ids=[batch_id])
    method = methods.BATCH["GetBatchStats"]
    try:
        answer = await calls.unary(method, request, repeatable=True)
    except NotFoundError:
        return None
    return batch_stats_from(answer.batches[0])


async def check_extension(calls: AsyncCalls, what: str) -> None:
    """InvalidArgumentError where the server keeps no batches."""
    if not await calls.speaks_batches():
        raise InvalidArgumentError(
            f"{what} needs a server with the batch extension, and the one at "
            f"{calls.settings.name} keeps no batches: there every job is on its own"
        )
