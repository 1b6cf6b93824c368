"""What became of jobs, between the wire and the store."""

from __future__ import annotations

from functools import lru_cache

from spooled_pipelines.server.core import validation
from spooled_pipelines.server.core.errors import RefusedError, invalid
from spooled_pipelines.server.core.jobs.settlements import (
    Act,
    Completion,
    Death,
    Failure,
    GiveBack,
    Incomplete,
)
from spooled_pipelines.server.services.leases.lease_calls import code_in_band
from spooled_pipelines.server.store import Settled
from spooled_pipelines.wire import batch_v1, limits
from spooled_pipelines.wire.batch_v1 import JobSettled
from spooled_pipelines.wire.spooled_v1 import JobStatus


def incomplete(outcome: batch_v1.JobOutcome | batch_v1.JobException) -> Incomplete:
    """Return what became of a job that did not complete, checked."""
    match outcome.WhichOneof("outcome"):
        case "failed":
            return _failure(outcome.failed)
        case "returned":
            return _give_back(outcome.returned)
        case "died":
            died = outcome.died
            code = validation.integer("exit_code", died.exit_code, -(2**31), 2**31 - 1)
            return Death(validation.error(died.error), code, died.others)
    raise invalid("the outcome is empty: set one of its fields")


def _failure(failed: batch_v1.Failure) -> Failure:
    delay: int | None = None
    if failed.HasField("retry_delay_secs"):
        most = limits.RETRY_DELAY_SECONDS_MAX
        delay = validation.integer("retry_delay_secs", failed.retry_delay_secs, 0, most)
    return Failure(validation.error(failed.error), not failed.final, delay)


def _give_back(returned: batch_v1.Return) -> GiveBack:
    """Return what becomes of a job that is given back, checked."""
    after_ms = returned.after_ms if returned.HasField("after_ms") else None
    most = limits.HOLD_SECONDS_MAX if returned.throttles else limits.RETRY_DELAY_SECONDS_MAX
    if after_ms is not None:
        validation.integer("after_ms", after_ms, 0, 1_000 * most)
    return GiveBack(returned.begun, after_ms, returned.throttles)


def settled(act: Act | RefusedError, outcome: Settled) -> JobSettled:
    """Return what the holder of a job is told."""
    if isinstance(outcome, RefusedError):
        return refused(outcome)
    if outcome is None:
        done = isinstance(act, Completion)
        return _told(JobStatus.JOB_STATUS_COMPLETED if done else JobStatus.JOB_STATUS_PENDING, 0)
    if not outcome.will_retry:
        return _told(JobStatus.JOB_STATUS_DEADLETTER, 0)
    return _told(JobStatus.JOB_STATUS_PENDING, outcome.delay_seconds)


def refused(refusal: RefusedError) -> JobSettled:
    """Return a refusal in band; raise one that concerns more than its job."""
    if refusal.code in ("UNAVAILABLE", "INTERNAL"):
        raise refusal
    return JobSettled(code=code_in_band(refusal), message=refusal.message)


# Most answers are alike.
@lru_cache(maxsize=128)
def _told(status: JobStatus, delay_seconds: int) -> JobSettled:
    return JobSettled(status=status, next_retry_delay_secs=delay_seconds)
