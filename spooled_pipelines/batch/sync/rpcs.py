# Made from spooled_pipelines/batch/aio/rpcs.py by `make proto`: change that, not this.
"""What is done to a batch that is there: cancel it, retry it, find its newest generation."""

from __future__ import annotations

from collections.abc import Sequence

from spooled_pipelines.batch.outcome.dead_letters import check_refused, lots
from spooled_pipelines.batch.parts import BatchPart, missing_parts, parts_missing
from spooled_pipelines.batch.patience import Patience
from spooled_pipelines.errors import (
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    SpooledError,
)
from spooled_pipelines.rpc import methods
from spooled_pipelines.rpc.decode import batch_stats_from, cancel_result_from
from spooled_pipelines.rpc.sync.connection import Calls
from spooled_pipelines.rpc.sync.runtime import sleep
from spooled_pipelines.types import BatchStats, CancelResult
from spooled_pipelines.wire import batch_v1
from spooled_pipelines.wire.limits import BATCH_IDS_PER_CALL_MAX

# A batch of millions takes its time; the server does it in steps.
_CONTROL_SECONDS = 300.0


def cancel_batch(calls: Calls, batch_id: str, generation: int | None) -> CancelResult:
    """Cancel what has not started, of generations up to this one."""
    request = batch_v1.CancelBatchRequest(batch_id=batch_id, generation=generation)
    method = methods.BATCH["CancelBatch"]
    answer = calls.unary(method, request, timeout=_CONTROL_SECONDS, repeatable=True)
    return cancel_result_from(answer)


def retry_batch(calls: Calls, batch_id: str, error_contains: str, cancelled: bool = False) -> int:
    """Put dead letters (and what was cancelled) back into the queue; returns how many."""
    request = batch_v1.RetryBatchRequest(
        batch_id=batch_id, error_contains=error_contains, cancelled=cancelled
    )
    method = methods.BATCH["RetryBatch"]
    answer = calls.unary(method, request, timeout=_CONTROL_SECONDS, repeatable=True)
    retried: int = answer.retried
    return retried


def revise(calls: Calls, revisions: Sequence[batch_v1.DeadLetterRevision]) -> int:
    """Do each to its dead letter; returns how many were. One that is dead no more is left alone."""
    done = 0
    for lot in lots(revisions):
        request = batch_v1.ReviseDeadLettersRequest(revisions=lot)
        method = methods.BATCH["ReviseDeadLetters"]
        answer = calls.unary(method, request, timeout=_CONTROL_SECONDS, repeatable=False)
        check_refused(answer.refused)
        done += len(lot) - len(answer.refused)
    return done


def finish_part(calls: Calls, batch_id: str, generation: int, part_id: str, rows: int) -> None:
    """Say that a part's last row is in."""
    request = batch_v1.FinishPartRequest(
        batch_id=batch_id, generation=generation, part_id=part_id, rows=rows
    )
    calls.unary(methods.BATCH["FinishPart"], request, repeatable=True)


def seal_batch(
    calls: Calls,
    batch_id: str,
    generation: int,
    *,
    count: int | None = None,
    part_ids: Sequence[str] = (),
) -> None:
    """Say that a batch's last row is in: that of so many parts, or of these.

    Raises:
        PartsMissingError: some parts are not in.
    """
    request = batch_v1.SealBatchRequest(
        batch_id=batch_id, generation=generation, expected_parts=count, part_ids=part_ids
    )
    try:
        calls.unary(methods.BATCH["SealBatch"], request, repeatable=True)
    except ConflictError as error:
        # Which ones are too many for an error on the wire.
        missing = missing_parts(list_parts(calls, batch_id), count, part_ids)
        if missing is None:
            raise
        raise parts_missing(batch_id, missing) from error


def list_parts(calls: Calls, batch_id: str) -> list[BatchPart]:
    """The parts of a batch's newest generation, in the order of their ids."""
    request = batch_v1.ListPartsRequest(batch_id=batch_id)
    patience = Patience(calls.settings.retry)
    while True:
        found: list[BatchPart] = []
        stream = calls.stream(methods.BATCH["ListParts"], request)
        try:
            for page in stream:
                found += [BatchPart(one.part_id, one.finished, one.rows) for one in page.parts]
        except SpooledError as error:
            delay = patience.delay(error)
            if delay is None:
                raise
            sleep(delay)
        else:
            return found
        finally:
            stream.cancel()


def newest_generation(calls: Calls, batch_id: str) -> BatchStats | None:
    """Where a batch stands; None where there is none."""
    try:
        (found,) = stats_of(calls, [batch_id])
    except NotFoundError:
        return None
    return found


def stats_of(
    calls: Calls, batch_ids: Sequence[str], timeout: float | None = None
) -> list[BatchStats]:
    """Where some batches stand, in this order.

    Raises:
        NotFoundError: one is not there; the message names it.
    """
    found: list[BatchStats] = []
    method = methods.BATCH["GetBatchStats"]
    for start in range(0, len(batch_ids), BATCH_IDS_PER_CALL_MAX):
        some = batch_ids[start : start + BATCH_IDS_PER_CALL_MAX]
        request = batch_v1.GetBatchStatsRequest(batch_ids=some)
        answer = calls.unary(method, request, timeout=timeout, repeatable=True)
        found += [batch_stats_from(message) for message in answer.batches]
    return found


def check_extension(calls: Calls, what: str) -> None:
    """InvalidArgumentError where the server keeps no batches."""
    if not calls.speaks_batches():
        raise InvalidArgumentError(
            f"{what} needs a server with the batch extension, and the one at "
            f"{calls.settings.name} keeps no batches: there every job is on its own"
        )
