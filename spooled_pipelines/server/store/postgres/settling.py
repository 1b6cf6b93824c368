"""Ends and renewals of leases, many in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.errors import RefusedError, not_found
from spooled_pipelines.server.core.job_rules import retry_delay_seconds, why_not_held
from spooled_pipelines.server.core.records import (
    Completion,
    FailOutcome,
    Failure,
    GiveBack,
    Holder,
    Status,
)
from spooled_pipelines.server.store.postgres.completing import Plain, complete
from spooled_pipelines.server.store.postgres.transaction import Ground, Transaction, run


@dataclass(slots=True)
class Held:
    """A job whose row is locked; what is changed here is written at the end."""

    seq: int
    organization: int
    queue: int
    status: int
    batch: int | None
    linked: bool
    retry_count: int
    max_retries: int
    due_at: int | None
    lease_expires_at: int | None
    started_at: int | None
    completed_at: int | None
    worker_id: str | None
    lease_id: str | None
    # Whether its queue has so many in flight at most, so that the end of a lease makes room.
    is_capped: bool = False
    # Why the attempt failed that ended in this transaction.
    error: str | None = None
    result: bytes | None = None
    batches: tuple[int, ...] = ()
    changed: bool = False


class Renewal(NamedTuple):
    """It takes longer."""

    lease_ms: int


Act = Completion | Failure | Renewal | GiveBack


class Settling(NamedTuple):
    """What someone says about a job that it holds."""

    organization: int
    holder: Holder
    act: Act


Settled = FailOutcome | int | None


def is_not_held(error: BaseException) -> bool:
    """Whether the store refused since the job is not the holder's."""
    return isinstance(error, RefusedError) and error.code in ("NOT_FOUND", "FAILED_PRECONDITION")


async def settle(ground: Ground, settlings: Sequence[Settling]) -> list[Settled | RefusedError]:
    """For each, in turn: the outcome (a renewal's is when the lease ends) or why not."""
    outcomes: list[Settled | RefusedError] = [None] * len(settlings)
    plain = plain_completions(ground.prefix, settlings)
    completed = await run(ground, lambda tx: complete(tx, plain)) if plain else set()
    # Whatever was not plain enough, or refused: here it is found out why.
    rest = [place for place in range(len(settlings)) if place not in completed]
    if rest:
        given = [settlings[place] for place in rest]
        judged = await run(ground, lambda tx: _settle(tx, given))
        for place, outcome in zip(rest, judged, strict=True):
            outcomes[place] = outcome
    return outcomes


def plain_completions(prefix: str, settlings: Sequence[Settling]) -> list[Plain]:
    """Those that name a lease and are all that is said about their job."""
    numbers = [ids.job_number(prefix, settling.holder.job_id) for settling in settlings]
    said = Counter(numbers)
    return [
        Plain(number, place, organization, holder, act.result)
        for place, (number, (organization, holder, act)) in enumerate(
            zip(numbers, settlings, strict=True)
        )
        if isinstance(act, Completion)
        and number is not None
        and said[number] == 1
        and holder.lease_id
    ]


async def _settle(tx: Transaction, settlings: Sequence[Settling]) -> list[Settled | RefusedError]:
    numbers = [ids.job_number(tx.prefix, settling.holder.job_id) for settling in settlings]
    wanted = sorted({number for number in numbers if number is not None})
    async with tx.pipeline():
        await tx.begin()
        jobs = {row[0]: Held(*row) for row in await tx.rows("lock_jobs", seqs=wanted)}
        batches = await tx.batches_of((job.seq, job.batch, job.linked) for job in jobs.values())
        for job in jobs.values():
            job.batches = batches[job.seq]
        outcomes = [
            _judged(tx, jobs.get(number or 0), settling)
            for number, settling in zip(numbers, settlings, strict=True)
        ]
        await write(tx, [job for job in jobs.values() if job.changed])
        await tx.commit()
    return outcomes


def _judged(tx: Transaction, job: Held | None, settling: Settling) -> Settled | RefusedError:
    """Do it to the job in hand; the next one that settles it finds it so."""
    holder, act = settling.holder, settling.act
    if job is None or job.organization != settling.organization:
        return not_found(f"there is no job {holder.job_id!r}")
    refusal = why_not_held(job, holder, tx.now)
    if refusal is not None:
        return refusal
    if isinstance(act, Completion):
        job.result, job.completed_at = act.result, tx.now
        left_processing(tx, job, Status.COMPLETED)
        return None
    if isinstance(act, Renewal):
        before, job.lease_expires_at = job.lease_expires_at, tx.now + act.lease_ms
        job.changed = True
        # Whoever looks when it would have ended before looks again: only an earlier end is news.
        if before is not None and job.lease_expires_at < before:
            tx.tally.due_at(job.lease_expires_at)
        return job.lease_expires_at
    if isinstance(act, GiveBack):
        left_processing(tx, job, Status.PENDING)
        job.worker_id = job.lease_id = job.started_at = None
        return None
    return _failed(tx, job, act)


def _failed(tx: Transaction, job: Held, failure: Failure) -> FailOutcome:
    if not failure.retry or job.retry_count >= job.max_retries:
        bury(tx, job, failure.error)
        return FailOutcome(will_retry=False, delay_seconds=0)
    delay = failure.delay_seconds
    if delay is None:
        delay = retry_delay_seconds(job.retry_count)
    job.error, job.due_at = failure.error, tx.now + delay * 1000
    job.retry_count += 1
    left_processing(tx, job, Status.PENDING, waiting=True)
    tx.tally.due_at(job.due_at)
    return FailOutcome(will_retry=True, delay_seconds=delay)


def left_processing(tx: Transaction, job: Held, status: int, *, waiting: bool = False) -> None:
    """The job's lease ended, and this is its status now."""
    tx.tally.move(job.queue, job.batches, Status.PROCESSING, status, waiting=waiting)
    tx.tally.released.append((job.seq, job.lease_id))
    if job.is_capped:
        tx.tally.ready_queues.add(job.queue)
    job.status, job.lease_expires_at, job.changed = status, None, True


def bury(tx: Transaction, job: Held, error: str) -> None:
    """The job goes to the dead letters."""
    job.error, job.completed_at = error, tx.now
    tx.tally.count_error(job.batches, error)
    left_processing(tx, job, Status.DEADLETTER)


async def write(tx: Transaction, jobs: Sequence[Held]) -> None:
    """Write what changed of these locked jobs."""
    if not jobs:
        return
    failed = [job for job in jobs if job.error is not None]
    if failed:
        await tx.send(
            "add_attempts",
            now=tx.now,
            jobs=[job.seq for job in failed],
            workers=[job.worker_id for job in failed],
            started=[job.started_at for job in failed],
            errors=[(job.error or "").encode() for job in failed],
        )
    await tx.send(
        "write_jobs",
        seqs=[job.seq for job in jobs],
        statuses=[job.status for job in jobs],
        due=[job.due_at for job in jobs],
        expiries=[job.lease_expires_at for job in jobs],
        retry_counts=[job.retry_count for job in jobs],
        started=[job.started_at for job in jobs],
        completed=[job.completed_at for job in jobs],
        workers=[job.worker_id for job in jobs],
        leases=[job.lease_id for job in jobs],
        errors=[None if job.error is None else job.error.encode() for job in jobs],
        results=[job.result for job in jobs],
    )
