"""Cancelling and retrying: so many jobs in one transaction, until all are seen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.errors import RefusedError, conflict, not_found
from spooled_pipelines.server.core.records import Counts, Revision, Status
from spooled_pipelines.server.store.postgres import batch_marks
from spooled_pipelines.server.store.postgres.database import fetch, lent
from spooled_pipelines.server.store.postgres.settling import Held, write
from spooled_pipelines.server.store.postgres.transaction import Ground, Rows, Transaction, run

# How many jobs one step looks at, so that others are not held up for long.
STEP_JOBS = 2_000


class _Step(NamedTuple):
    """How many jobs were changed, and the place to go on from; None at the end."""

    changed: int
    after: int | None


class _Found(NamedTuple):
    """A locked job with the error that it has."""

    job: Held
    error: str


async def cancel_batch(
    ground: Ground, organization: str, batch_id: str, generation: int | None
) -> Counts:
    """Cancel what has not started of the generations up to this; their counters then."""
    async with lent(ground.pool) as connection:
        values = {"organization": organization, "batch_id": batch_id}
        rows = await fetch(connection, "generations", **values, highest=generation)
        if not rows and not await fetch(connection, "find_batch", **values):
            raise not_found(f"there is no batch {batch_id!r}")
    numbers = [number for (number,) in rows]
    for number in numbers:
        await _in_steps(ground, partial(_cancel, batch=number))
    async with lent(ground.pool) as connection:
        (counts,) = await fetch(connection, "generation_counts", batches=numbers)
    return Counts(*counts)


async def retry_batch(
    ground: Ground, organization: str, batch_id: str, error_contains: str, cancelled: bool
) -> int:
    """Put dead letters with such an error back into the queue; returns how many.

    And, where that is asked for, what was cancelled.
    """
    async with lent(ground.pool) as connection:
        rows = await fetch(connection, "find_batch", organization=organization, batch_id=batch_id)
    if not rows:
        raise not_found(f"there is no batch {batch_id!r}")
    number = rows[0][0]
    return await _in_steps(
        ground, partial(_retry, batch=number, error_contains=error_contains, cancelled=cancelled)
    )


async def _in_steps(ground: Ground, step: Callable[..., Awaitable[_Step]]) -> int:
    changed = 0
    after: int | None = 0
    while after is not None:
        done = await run(ground, partial(step, after=after))
        changed += done.changed
        after = done.after
    return changed


async def _cancel(tx: Transaction, batch: int, after: int) -> _Step:
    async with tx.pipeline():
        await tx.begin()
        places = await tx.rows("places_of_batch", batch=batch, after=after, limit=STEP_JOBS)
        found, following = await _locked(tx, places, (Status.PENDING, Status.SCHEDULED))
        _cancel_all(tx, found)
        await write(tx, [job for job, _ in found])
        await tx.commit()
    return _Step(len(found), following)


async def _retry(
    tx: Transaction, batch: int, error_contains: str, cancelled: bool, after: int
) -> _Step:
    async with tx.pipeline():
        await tx.begin()
        places = await tx.rows("places_of_batch", batch=batch, after=after, limit=STEP_JOBS)
        await batch_marks.unsettle(tx, [seq for (seq,) in places])
        dead, following = await _locked(tx, places, (Status.DEADLETTER,))
        changed = await _revive(tx, dead, error_contains)
        if cancelled:
            found, _ = await _locked(tx, places, (Status.CANCELLED,))
            changed += await _restore(tx, found)
        await tx.commit()
    return _Step(changed, following)


async def revise(
    ground: Ground, owner: int, revisions: Sequence[Revision]
) -> list[RefusedError | None]:
    """For each dead letter, in turn, why it stays as it is."""
    return await run(ground, lambda tx: _revise(tx, owner, revisions))


async def _revise(
    tx: Transaction, owner: int, revisions: Sequence[Revision]
) -> list[RefusedError | None]:
    numbers = [ids.job_number(tx.prefix, revision.job_id) for revision in revisions]
    wanted = sorted({number for number in numbers if number is not None})
    async with tx.pipeline():
        await tx.begin()
        await batch_marks.unsettle(tx, wanted)
        rows = await tx.rows("lock_in_status", seqs=wanted, statuses=list(Status.NAMES))
        locked = await _with_batches(tx, rows)
        remembered = {found.job.seq: found for found in await _without_forgotten(tx, locked)}
        refusals: list[RefusedError | None] = []
        changed: list[Held] = []
        for number, revision in zip(numbers, revisions, strict=True):
            found = remembered.get(number or 0)
            refusal = _why_not_revised(found, owner, revision)
            refusals.append(refusal)
            if refusal is None and found is not None:
                _revise_one(tx, found, revision)
                changed.append(found.job)
                if revision.payload is not None:
                    await tx.send("change_payload", seq=number, payload=revision.payload)
        await write(tx, changed)
        await tx.commit()
    return refusals


def _why_not_revised(found: _Found | None, owner: int, revision: Revision) -> RefusedError | None:
    if found is None or found.job.organization != owner:
        return not_found(f"there is no job {revision.job_id!r}")
    if found.job.status != Status.DEADLETTER:
        return conflict(f"Job is {Status.NAMES[found.job.status]}, and no dead letter")
    return None


def _revise_one(tx: Transaction, found: _Found, revision: Revision) -> None:
    job, error = found
    status = Status.CANCELLED if revision.discard else Status.PENDING
    tx.tally.move(job.queue, job.batches, Status.DEADLETTER, status)
    tx.tally.count_error(job.batches, error, -1)
    job.status = status
    if revision.discard:
        job.completed_at = tx.now
    else:
        job.retry_count = 0
        job.started_at = job.completed_at = job.worker_id = job.lease_id = None


async def set_paused(ground: Ground, organization: str, queue_name: str, paused: bool) -> None:
    """Let nobody claim of a queue any more, or again."""
    _, queue = await ground.place(organization, queue_name)
    await run(ground, partial(_set_paused, queue=queue, paused=paused))


async def purge_queue(ground: Ground, organization: str, queue_name: str) -> int:
    """Cancel what is pending on a queue now; returns how many."""
    _, queue = await ground.place(organization, queue_name)
    async with lent(ground.pool) as connection:
        ((highest,),) = await fetch(connection, "last_job")
    return await _in_steps(ground, partial(_purge, queue=queue, highest=highest))


async def redrive(ground: Ground, organization: str, queue_name: str, error_contains: str) -> int:
    """Put a queue's dead letters with such an error back into it; returns how many."""
    _, queue = await ground.place(organization, queue_name)
    return await _in_steps(ground, partial(_redrive, queue=queue, error_contains=error_contains))


async def _set_paused(tx: Transaction, queue: int, paused: bool) -> None:
    async with tx.pipeline():
        await tx.begin()
        await tx.send("set_paused", queue=queue, paused=paused)
        tx.tally.controlled.add(queue)
        if not paused:
            tx.tally.ready_queues.add(queue)
        await tx.commit()


async def _purge(tx: Transaction, queue: int, highest: int, after: int) -> _Step:
    # What was cancelled is not found again, so there is no place to go on from.
    values = {"queue": queue, "highest": highest, "limit": STEP_JOBS}
    async with tx.pipeline():
        await tx.begin()
        ready = await tx.rows("lock_ready", **values)
        retrying = await tx.rows("lock_retrying", **values)
        found = await _with_batches(tx, [*ready, *retrying])
        _cancel_all(tx, found)
        await write(tx, [job for job, _ in found])
        await tx.commit()
    is_last = max(len(ready), len(retrying)) < STEP_JOBS
    return _Step(len(found), None if is_last else after)


async def _redrive(tx: Transaction, queue: int, error_contains: str, after: int) -> _Step:
    async with tx.pipeline():
        await tx.begin()
        values = {"queue": queue, "after": after, "limit": STEP_JOBS}
        seqs = [seq for (seq,) in await tx.rows("dead_of_queue", **values)]
        await batch_marks.unsettle(tx, seqs)
        rows = await tx.rows("lock_in_status", seqs=seqs, statuses=[Status.DEADLETTER])
        changed = await _revive(tx, await _with_batches(tx, rows), error_contains)
        await tx.commit()
    return _Step(changed, seqs[-1] if len(seqs) == STEP_JOBS else None)


async def _revive(tx: Transaction, dead: Sequence[_Found], error_contains: str) -> int:
    found = await _without_forgotten(tx, [d for d in dead if error_contains in d.error])
    for job, error in found:
        tx.tally.move(job.queue, job.batches, Status.DEADLETTER, Status.PENDING)
        tx.tally.count_error(job.batches, error, -1)
        job.status, job.retry_count = Status.PENDING, 0
        job.started_at = job.completed_at = job.worker_id = job.lease_id = None
    await write(tx, [job for job, _ in found])
    return len(found)


async def _restore(tx: Transaction, cancelled: Sequence[_Found]) -> int:
    """Undo the cancelling: what was not due yet is due when it was; retries begin anew."""
    found = [job for job, _ in await _without_forgotten(tx, list(cancelled))]
    rows = await tx.rows("scheduled_after", seqs=[job.seq for job in found], now=tx.now)
    later: dict[int, int] = dict(rows)
    for job in found:
        job.due_at = later.get(job.seq)
        job.status = Status.PENDING if job.due_at is None else Status.SCHEDULED
        tx.tally.move(job.queue, job.batches, Status.CANCELLED, job.status)
        if job.due_at is not None:
            tx.tally.due_at(job.due_at)
        job.retry_count = 0
        job.started_at = job.completed_at = job.worker_id = job.lease_id = None
    await write(tx, found)
    return len(found)


async def _without_forgotten(tx: Transaction, found: list[_Found]) -> list[_Found]:
    """A job whose batches are all being forgotten is as good as gone."""
    batches = {batch for job, _ in found for batch in job.batches}
    remembered = {number for (number,) in await tx.rows("remembered", batches=sorted(batches))}
    return [
        item
        for item in found
        if not item.job.batches or not remembered.isdisjoint(item.job.batches)
    ]


def _cancel_all(tx: Transaction, found: Sequence[_Found]) -> None:
    for job, _ in found:
        waited = job.status == Status.PENDING and job.due_at is not None
        tx.tally.move(job.queue, job.batches, job.status, Status.CANCELLED, was_waiting=waited)
        job.status, job.due_at, job.completed_at = Status.CANCELLED, None, tx.now


async def _locked(
    tx: Transaction, places: Rows, statuses: Sequence[int]
) -> tuple[list[_Found], int | None]:
    """Those of these jobs that are in these statuses, and the place to go on from."""
    seqs = [seq for (seq,) in places]
    rows = await tx.rows("lock_in_status", seqs=seqs, statuses=list(statuses))
    return await _with_batches(tx, rows), seqs[-1] if len(seqs) == STEP_JOBS else None


async def _with_batches(tx: Transaction, rows: Rows) -> list[_Found]:
    found = [_Found(Held(*held), (error or b"").decode()) for *held, error in rows]
    batches = await tx.batches_of((job.seq, job.batch, job.linked) for job, _ in found)
    for job, _ in found:
        job.batches = batches[job.seq]
    return found
