"""Cancelling and retrying: so many jobs in one transaction, until all are seen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.counter_deltas import LockedJob
from spooled_pipelines.server.core.errors import RefusedError, not_found
from spooled_pipelines.server.core.job_rules import (
    Cancel,
    Discard,
    Event,
    Purge,
    Retry,
    why_not_revised,
)
from spooled_pipelines.server.core.records import CancelOutcome, Counts, Revision, Status
from spooled_pipelines.server.store import Selector
from spooled_pipelines.server.store.limits import STEP_JOBS
from spooled_pipelines.server.store.postgres import batch_marks
from spooled_pipelines.server.store.postgres.context import StoreContext
from spooled_pipelines.server.store.postgres.database import borrowed, fetch
from spooled_pipelines.server.store.postgres.transaction import Rows, Transaction
from spooled_pipelines.server.store.postgres.transaction_retry import run
from spooled_pipelines.server.store.requests import BatchSelector, QueueSelector


class _Step(NamedTuple):
    """How many jobs were changed, and the place to go on from; None at the end."""

    changed: int
    after: int | None


async def cancel(context: StoreContext, organization: str, selector: Selector) -> CancelOutcome:
    """Cancel what has not started of a batch, or is pending on a queue now."""
    if isinstance(selector, BatchSelector):
        return await _cancel_batch(context, organization, selector)
    _, queue = await context.place(organization, selector.queue_name)
    async with borrowed(context.pool) as connection:
        ((highest,),) = await fetch(connection, "read_last_number")
    cancelled = await _in_steps(context, partial(_purge, queue=queue, highest=highest))
    async with borrowed(context.pool) as connection:
        values = {"organization": organization, "name": selector.queue_name}
        ((_, *counts),) = await fetch(connection, "read_queue", **values)
    return CancelOutcome(cancelled, Counts(*counts))


async def _cancel_batch(
    context: StoreContext, organization: str, selector: BatchSelector
) -> CancelOutcome:
    values = {"organization": organization, "batch_id": selector.batch_id}
    async with borrowed(context.pool) as connection:
        rows = await fetch(connection, "list_generations", **values, highest=selector.generation)
        if not rows and not await fetch(connection, "find_batch", **values):
            raise not_found(f"there is no batch {selector.batch_id!r}")
    numbers = [number for (number,) in rows]
    cancelled = 0
    for number in numbers:
        cancelled += await _in_steps(context, partial(_cancel, batch=number))
    async with borrowed(context.pool) as connection:
        (counts,) = await fetch(connection, "read_generation_counts", batches=numbers)
    return CancelOutcome(cancelled, Counts(*counts))


async def retry(
    context: StoreContext,
    organization: str,
    selector: Selector,
    error_contains: str = "",
    cancelled: bool = False,
) -> int:
    """Put dead letters with such an error back into the queue, and what was cancelled if asked."""
    if isinstance(selector, QueueSelector):
        _, queue = await context.place(organization, selector.queue_name)
        step = partial(_retry_queue, queue=queue, error_contains=error_contains)
        return await _in_steps(context, step)
    values = {"organization": organization, "batch_id": selector.batch_id}
    async with borrowed(context.pool) as connection:
        rows = await fetch(connection, "find_batch", **values)
    if not rows:
        raise not_found(f"there is no batch {selector.batch_id!r}")
    step = partial(
        _retry_batch, batch=rows[0][0], error_contains=error_contains, cancelled=cancelled
    )
    return await _in_steps(context, step)


async def _in_steps(context: StoreContext, step: Callable[..., Awaitable[_Step]]) -> int:
    changed = 0
    after: int | None = 0
    while after is not None:
        done = await run(context, partial(step, after=after))
        changed += done.changed
        after = done.after
    return changed


async def _cancel(tx: Transaction, batch: int, after: int) -> _Step:
    async with tx.pipeline():
        await tx.begin()
        places = await tx.rows("list_places_of_batch", batch=batch, after=after, limit=STEP_JOBS)
        jobs = await _locked(tx, places, (Status.PENDING, Status.SCHEDULED))
        changed = await _apply(tx, jobs, Cancel())
        await tx.commit()
    return _Step(changed, _following(places))


async def _retry_batch(
    tx: Transaction, batch: int, error_contains: str, cancelled: bool, after: int
) -> _Step:
    event = Retry(cancelled)
    statuses = (Status.DEADLETTER, Status.CANCELLED) if cancelled else (Status.DEADLETTER,)
    async with tx.pipeline():
        await tx.begin()
        places = await tx.rows("list_places_of_batch", batch=batch, after=after, limit=STEP_JOBS)
        await batch_marks.unsettle(tx, [seq for (seq,) in places])
        jobs = await _locked(tx, places, statuses)
        changed = await _apply(tx, await _wanted(tx, jobs, error_contains), event)
        await tx.commit()
    return _Step(changed, _following(places))


async def revise(
    context: StoreContext, organization: str, revisions: Sequence[Revision]
) -> list[RefusedError | None]:
    """Revise dead letters; return for each, in turn, why it stays as it is."""
    owner = await context.owner(organization)
    return await run(context, lambda tx: _revise(tx, owner, revisions))


async def _revise(
    tx: Transaction, owner: int, revisions: Sequence[Revision]
) -> list[RefusedError | None]:
    numbers = [ids.job_number(tx.prefix, revision.job_id) for revision in revisions]
    wanted = sorted({number for number in numbers if number is not None})
    async with tx.pipeline():
        await tx.begin()
        await batch_marks.unsettle(tx, wanted)
        locked = await tx.locked("lock_jobs", seqs=wanted)
        found = {job.seq: job for job in await _without_forgotten(tx, locked)}
        refusals: list[RefusedError | None] = []
        for number, revision in zip(numbers, revisions, strict=True):
            job = found.get(number or 0)
            if job is None or job.organization != owner:
                refusals.append(not_found(f"there is no job {revision.job_id!r}"))
                continue
            refusals.append(why_not_revised(job.state))
            tx.deltas.apply(job, Discard() if revision.discard else Retry(), tx.now)
            if refusals[-1] is None and revision.payload is not None:
                await tx.send("change_payload", seq=number, payload=revision.payload)
        await tx.write(found.values())
        await tx.commit()
    return refusals


async def _purge(tx: Transaction, queue: int, highest: int, after: int) -> _Step:
    # What was cancelled is not found again, so there is no place to go on from.
    values = {"queue": queue, "highest": highest, "limit": STEP_JOBS}
    async with tx.pipeline():
        await tx.begin()
        ready = await tx.locked("lock_ready", **values)
        retrying = await tx.locked("lock_retrying", **values)
        changed = await _apply(tx, [*ready, *retrying], Purge())
        await tx.commit()
    is_last = max(len(ready), len(retrying)) < STEP_JOBS
    return _Step(changed, None if is_last else after)


async def _retry_queue(tx: Transaction, queue: int, error_contains: str, after: int) -> _Step:
    async with tx.pipeline():
        await tx.begin()
        places = await tx.rows("list_dead_of_queue", queue=queue, after=after, limit=STEP_JOBS)
        await batch_marks.unsettle(tx, [seq for (seq,) in places])
        jobs = await _locked(tx, places, (Status.DEADLETTER,))
        changed = await _apply(tx, await _wanted(tx, jobs, error_contains), Retry())
        await tx.commit()
    return _Step(changed, _following(places))


async def _wanted(
    tx: Transaction, jobs: Sequence[LockedJob], error_contains: str
) -> Sequence[LockedJob]:
    """Return the jobs but for dead letters of another error, and for what is forgotten."""
    found = [
        job
        for job in jobs
        if job.state.status != Status.DEADLETTER or error_contains in (job.state.last_error or "")
    ]
    return await _without_forgotten(tx, found)


async def _without_forgotten(tx: Transaction, jobs: Sequence[LockedJob]) -> list[LockedJob]:
    """Return the jobs but for those whose batches are all being forgotten."""
    batches = {batch for job in jobs for batch in job.batches}
    remembered = {number for (number,) in await tx.rows("find_remembered", batches=sorted(batches))}
    return [job for job in jobs if not job.batches or not remembered.isdisjoint(job.batches)]


async def _locked(tx: Transaction, places: Rows, statuses: Sequence[int]) -> list[LockedJob]:
    """Return those of these jobs that are in these statuses."""
    seqs = [seq for (seq,) in places]
    return await tx.locked("lock_in_status", seqs=seqs, statuses=list(statuses))


async def _apply(tx: Transaction, jobs: Sequence[LockedJob], event: Event) -> int:
    """Do it to locked jobs and write them; returns how many it changed."""
    changed = sum(tx.deltas.apply(job, event, tx.now) for job in jobs)
    await tx.write(jobs)
    return changed


def _following(places: Rows) -> int | None:
    """Return the place to go on from; None at the end."""
    return places[-1][0] if len(places) == STEP_JOBS else None
