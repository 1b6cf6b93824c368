"""The life of a job: docs/states.md as code. Decided without I/O, the same for every store.

The stores' fast paths (insert, claim, release of what is due, completion by a live lease) are SQL
and must do the same; the tests of both stores compare them with the page.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from spooled_pipelines.error_shapes import error_shape
from spooled_pipelines.retry_backoff import parse_backoff
from spooled_pipelines.server.core.errors import (
    LEASE_EXPIRED,
    LEASE_MISMATCH,
    RefusedError,
    conflict,
    lease_lost,
)
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.jobs.settlements import (
    Completion,
    Death,
    Ending,
    FailOutcome,
    Failure,
    GiveBack,
    LeaseHolder,
    Revision,
)

_SETTLED = (Status.COMPLETED, Status.FAILED, Status.DEADLETTER, Status.CANCELLED)
# The due time of a pending job that waits until another with its limit key has ended.
HELD = 1 << 62
_LONGEST_DELAY_MINUTES = 60
_ERROR_GROUP_CHARACTERS = 200
# A job that was delivered so often without an outcome is dead; see `ServerSettings`.
MAX_DELIVERIES = 20
_RUN_ALONE_MAX = (1 << 15) - 1


class JobState(NamedTuple):
    """The columns of a job that a transition reads or changes. Times are milliseconds."""

    status: int
    retry_count: int
    max_retries: int
    # How often it was handed out and begun, since it was last put back.
    deliveries: int = 0
    # Where it may have killed its worker: so many of those that may run together and nothing beside
    # them, so that its next run takes fewer neighbours along. 0: it is not one of them.
    run_alone: int = 0
    due_at: int | None = None
    scheduled_at: int | None = None
    started_at: int | None = None
    completed_at: int | None = None
    lease_expires_at: int | None = None
    worker_id: str | None = None
    lease_id: str | None = None
    retry_backoff: str | None = None
    expires_at: int | None = None
    last_error: str | None = None
    # Its payload was removed a while after it settled: there is nothing left to run.
    pruned: bool = False

    @property
    def is_waiting(self) -> bool:
        """Whether the job is pending and its retry is not due yet."""
        return self.status == Status.PENDING and self.due_at is not None

    @property
    def is_expired(self) -> bool:
        """Whether the job was cancelled after the time by which it had to start."""
        return (
            self.status == Status.CANCELLED
            and self.expires_at is not None
            and (self.completed_at or 0) >= self.expires_at
        )

    @property
    def is_in_line(self) -> bool:
        """Whether the job has its place among those that are claimed, or is held beside them."""
        return self.status == Status.PENDING and self.due_at in (None, HELD)

    @property
    def is_ready(self) -> bool:
        """Whether the job can be claimed."""
        return self.status == Status.PENDING and self.due_at is None


@dataclass(frozen=True, slots=True)
class Due:
    """The moment came until which the job was scheduled or waited for its retry."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker takes the job."""

    worker_id: str
    lease_id: str
    lease_ms: int


@dataclass(frozen=True, slots=True)
class Renewal:
    """The holder needs the lease for so long from now."""

    lease_ms: int


@dataclass(frozen=True, slots=True)
class LeaseExpiry:
    """The lease ran out before the holder settled the job."""


@dataclass(frozen=True, slots=True)
class Expire:
    """The moment came by which the job had to start."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """The job's batch is cancelled."""


@dataclass(frozen=True, slots=True)
class Purge:
    """The job's queue is purged."""


@dataclass(frozen=True, slots=True)
class Retry:
    """A dead letter goes back to the queue; with `cancelled`, a cancelled job as well."""

    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Discard:
    """A dead letter is given up."""


Event = (
    Completion
    | Death
    | Failure
    | GiveBack
    | Renewal
    | LeaseExpiry
    | Due
    | Expire
    | Claim
    | Cancel
    | Purge
    | Retry
    | Discard
)


class Transition(NamedTuple):
    """What an event makes of a job.

    `ending` says how the delivery ended that the event ended, unless the job completed. `error` is
    set where it failed, `result` where the event brought one.
    """

    after: JobState
    error: str | None = None
    result: bytes | None = None
    ending: int | None = None
    exit_code: int | None = None
    is_poison: bool = False


def transition(
    job: JobState, event: Event, now: int, max_deliveries: int = MAX_DELIVERIES
) -> Transition | None:
    """Return what the event makes of the job; None where it changes nothing.

    Whether the holder of a lease may say so is for `why_not_held`, which is asked first.
    """
    status = job.status
    match event:
        case Completion() if status == Status.PROCESSING:
            return Transition(_ended(job, Status.COMPLETED, now), result=event.result)
        case Failure() if status == Status.PROCESSING:
            delay = event.delay_seconds
            delay_ms = retry_delay_ms(job) if delay is None else 1000 * delay
            return _failed(job, event.error, now, now + delay_ms, is_final=not event.retry)
        case GiveBack() if status == Status.PROCESSING:
            if not event.begun:
                is_snoozed = event.after_ms is not None and not event.throttles
                due_at = now + (event.after_ms or 0) if is_snoozed else None
                returned = _released(job)._replace(deliveries=job.deliveries - 1, due_at=due_at)
                return Transition(returned)
            change = Transition(_released(job), ending=Ending.GIVEN_BACK)
            return _checked(job, change, "was given back", now, max_deliveries)
        case Death() if status == Status.PROCESSING:
            change = _died(job, event, now, max_deliveries)
            return _checked(job, change, f"died: {event.error}", now, max_deliveries)
        case Renewal() if status == Status.PROCESSING:
            return Transition(job._replace(lease_expires_at=now + event.lease_ms))
        case LeaseExpiry() if status == Status.PROCESSING:
            change = _failed(job, expiry_error(job.worker_id), now, None, ending=Ending.LOST)
            # Its worker may have died of it. The first time it was more likely a bystander.
            last_try = change.after.retry_count == job.max_retries
            alone = job.run_alone or job.retry_count or last_try
            change = change._replace(after=change.after._replace(run_alone=int(bool(alone))))
            return _checked(job, change, "lost its lease", now, max_deliveries)
        case Due() if job.due_at is not None and job.due_at <= now:
            return Transition(job._replace(status=Status.PENDING, due_at=None))
        case Claim() if status == Status.PENDING and job.due_at is None:
            leased = job._replace(
                status=Status.PROCESSING,
                deliveries=job.deliveries + 1,
                started_at=now,
                lease_expires_at=now + event.lease_ms,
                worker_id=event.worker_id,
                lease_id=event.lease_id,
            )
            return Transition(leased)
        case Expire() if status in (Status.PENDING, Status.SCHEDULED):
            if job.expires_at is not None and job.expires_at <= now:
                return Transition(_ended(job, Status.CANCELLED, now))
        case Cancel() if status in (Status.PENDING, Status.SCHEDULED):
            return Transition(_ended(job, Status.CANCELLED, now))
        case Purge() if status == Status.PENDING:
            return Transition(_ended(job, Status.CANCELLED, now))
        case Retry() if status == Status.DEADLETTER:
            return Transition(_restarted(job, None))
        case Retry(cancelled=True) if status == Status.CANCELLED and not job.pruned:
            is_early = job.scheduled_at is not None and job.scheduled_at > now
            return Transition(_restarted(job, job.scheduled_at if is_early else None))
        case Discard() if status == Status.DEADLETTER:
            return Transition(_ended(job, Status.CANCELLED, now)._replace(expires_at=None))
    return None


def _ended(job: JobState, status: int, now: int) -> JobState:
    return job._replace(status=status, due_at=None, completed_at=now, lease_expires_at=None)


def _released(job: JobState) -> JobState:
    return job._replace(
        status=Status.PENDING,
        started_at=None,
        lease_expires_at=None,
        worker_id=None,
        lease_id=None,
    )


def _died(job: JobState, death: Death, now: int, max_deliveries: int) -> Transition:
    """Return the job failed if nothing else can have killed its worker, else pending at once."""
    if death.others:
        change = Transition(_released(job)._replace(last_error=death.error), death.error)
    else:
        due_at = now + retry_delay_ms(job)
        change = _failed(job, death.error, now, due_at)
    after = change.after._replace(run_alone=_part(job, death.others, max_deliveries))
    return change._replace(after=after, ending=Ending.DIED, exit_code=death.exit_code)


def _part(job: JobState, others: int, max_deliveries: int) -> int:
    """Return how many of those that may have killed a worker run together next.

    An eighth of them: fewer deaths tell which one it is than with halves, and as few calls. But one
    by one, where no delivery would be left to a bystander by then.
    """
    part = (others + 8) // 8
    deaths, left = (part - 1).bit_length() + 2, _deliveries_of(job, max_deliveries) - job.deliveries
    return min(part, _RUN_ALONE_MAX) if deaths // 3 < left else 1


def _deliveries_of(job: JobState, max_deliveries: int) -> int:
    return max(max_deliveries, job.max_retries + 1)


def _checked(
    job: JobState, change: Transition, how: str, now: int, max_deliveries: int
) -> Transition:
    """Return the change, or the job dead if it was delivered often enough without an outcome."""
    most = _deliveries_of(job, max_deliveries)
    if change.after.status == Status.DEADLETTER or job.deliveries < most:
        return change
    error = f"Poison: delivered {job.deliveries} times without an outcome, and at last it {how}"
    dead = _ended(job, Status.DEADLETTER, now)
    after = dead._replace(last_error=error, run_alone=change.after.run_alone)
    return change._replace(after=after, error=error, is_poison=True)


def _failed(
    job: JobState,
    error: str,
    now: int,
    due_at: int | None,
    is_final: bool = False,
    ending: int = Ending.FAILED,
) -> Transition:
    """Return the job pending until its retry, or dead."""
    status, retries, ended_at = int(Status.PENDING), job.retry_count + 1, job.completed_at
    if is_final or retries > job.max_retries:
        status, retries, ended_at, due_at = Status.DEADLETTER, job.retry_count, now, None
    # By position, since `_replace` takes twice as long.
    after = JobState(
        status,
        retries,
        job.max_retries,
        job.deliveries,
        0,
        due_at,
        job.scheduled_at,
        job.started_at,
        ended_at,
        None,
        job.worker_id,
        job.lease_id,
        job.retry_backoff,
        job.expires_at,
        error,
    )
    return Transition(after, error, ending=ending)


def _restarted(job: JobState, due_at: int | None) -> JobState:
    """Return the job with all its retries, without worker, lease, start and end."""
    return job._replace(
        status=Status.PENDING if due_at is None else Status.SCHEDULED,
        due_at=due_at,
        retry_count=0,
        deliveries=0,
        started_at=None,
        completed_at=None,
        worker_id=None,
        lease_id=None,
        # Those who retry it want it done.
        expires_at=None,
    )


def ends_of_death(running: Sequence[bool], error: str, exit_code: int) -> list[Death | GiveBack]:
    """Return what becomes of each job that a worker held when its process died."""
    death = Death(error, exit_code, others=max(sum(running) - 1, 0))
    return [death if ran else GiveBack() for ran in running]


def fail_outcome(after: JobState, now: int) -> FailOutcome:
    """Return what the holder that failed a job is told."""
    if after.status != Status.PENDING:
        return FailOutcome(False, 0)
    return FailOutcome(True, ((after.due_at or now) - now) // 1000)


def why_not_held(job: JobState, holder: LeaseHolder, now: int) -> RefusedError | None:
    """Return why the job is not the holder's to settle; None where it is."""
    if job.status in _SETTLED:
        return conflict(f"Job is already {Status.NAMES[job.status]}")
    if holder.lease_id and holder.lease_id != job.lease_id:
        return lease_lost(f"lease_id {LEASE_MISMATCH}")
    if job.status != Status.PROCESSING:
        if holder.lease_id:
            return lease_lost(LEASE_EXPIRED)
        return conflict(f"Job is {Status.NAMES[job.status]}: claim it before you settle it")
    if holder.worker_id and holder.worker_id != job.worker_id:
        return lease_lost(f"worker_id {LEASE_MISMATCH}")
    if job.lease_expires_at is None or job.lease_expires_at <= now:
        return lease_lost(LEASE_EXPIRED)
    return None


def is_stripped(job: JobState) -> bool:
    """Return whether a cancelled job stays cancelled, since its payload was removed."""
    return job.status == Status.CANCELLED and bool(job.pruned)


def event_of(revision: Revision) -> Cancel | Discard | Retry:
    """Return what a revision does to its job."""
    if revision.cancel:
        return Cancel()
    return Discard() if revision.discard else Retry()


def why_not_revised(job: JobState, revision: Revision) -> RefusedError | None:
    """Return why the revision cannot be made of the job; None where it can."""
    name = Status.NAMES[job.status]
    if revision.cancel and job.status not in (Status.PENDING, Status.SCHEDULED):
        return conflict(f"Job is {name}: only a job that has not started can be cancelled")
    if not revision.cancel and job.status != Status.DEADLETTER:
        return conflict(f"Job is {name}, not a dead letter")
    return None


def retry_delay_ms(job: JobState) -> int:
    """Return how long a job waits that failed."""
    if job.retry_backoff is None:
        return int(60_000 * min(2 ** min(job.retry_count, 30), _LONGEST_DELAY_MINUTES))
    # The lease's id is as good as dice, and each server gets the same out of it.
    chance = zlib.crc32((job.lease_id or "").encode()) / 0xFFFF_FFFF
    return parse_backoff(job.retry_backoff).delay_ms(job.retry_count, chance)


def expiry_error(worker_id: str | None) -> str:
    """Return the error that a job keeps when its lease ran out."""
    return f"Lease expired: worker {worker_id} did not settle the job in time"


def error_group(error: str) -> str:
    """Return the text under which errors of one shape are counted together."""
    # So much of a text is looked at that what is left out of it matters little.
    return error_shape(error[: 4 * _ERROR_GROUP_CHARACTERS])[:_ERROR_GROUP_CHARACTERS]
