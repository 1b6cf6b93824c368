"""Cancelling and retrying: so many jobs in one transaction, until all are seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.batches.records import CancelOutcome, RetryOutcome
from spooled_pipelines.server.core.errors import RefusedError, not_found
from spooled_pipelines.server.core.jobs.counter_deltas import LockedJob
from spooled_pipelines.server.core.jobs.records import Counts, Status
from spooled_pipelines.server.core.jobs.rules import (
    Cancel,
    Event,
    Purge,
    Retry,
    event_of,
    is_stripped,
    why_not_revised,
)
from spooled_pipelines.server.core.jobs.settlements import Revision
from spooled_pipelines.server.store import Selector
from spooled_pipelines.server.store.limits import STEP_JOBS
from spooled_pipelines.server.store.postgres.connections.database import borrowed, fetch
from spooled_pipelines.server.store.postgres.transactions import (
    Rows,
    StoreContext,
    Transaction,
    run,
)
from spooled_pipelines.server.store.postgres.transactions.steps import TakeStep, in_steps
from spooled_pipelines.server.store.postgres.upkeep import batch_marks
from spooled_pipelines.server.store.requests import BatchSelector, QueueSelector
from spooled_pipelines.server.store.steps import Progress, Step


async def cancel(context: StoreContext, organization: str, selector: Selector) -> CancelOutcome:
    """Cancel what has not started of a batch, or is pending on a queue now."""
    asked = selector.request_id
    if isinstance(selector, BatchSelector):
        return await _cancel_batch(context, organization, selector)
    owner, queue = await context.place(organization, selector.queue_name)
    done = await in_steps(context, owner, asked, partial(_purge, queue=queue))
    async with borrowed(context.pool) as connection:
        values = {"organization": organization, "name": selector.queue_name}
        ((_, *counts),) = await fetch(connection, "read_queue", **values)
    return CancelOutcome(done.changed, Counts(*counts))


async def _cancel_batch(
    context: StoreContext, organization: str, selector: BatchSelector
) -> CancelOutcome:
    values = {"organization": organization, "batch_id": selector.batch_id}
    async with borrowed(context.pool) as connection:
        rows = await fetch(connection, "list_generations", **values, highest=selector.generation)
        if not rows and not await fetch(connection, "find_batch", **values):
            raise not_found(f"there is no batch {selector.batch_id!r}")
    numbers = [number for (number,) in rows]
    owner = await context.owner(organization)
    cancelled = 0
    for number in numbers:
        request_id = selector.request_id and f"{selector.request_id}:{number}"
        step = partial(_cancel, batch=number)
        cancelled += (await in_steps(context, owner, request_id, step)).changed
    async with borrowed(context.pool) as connection:
        (counts,) = await fetch(connection, "read_generation_counts", batches=numbers)
    return CancelOutcome(cancelled, Counts(*counts))


async def retry(
    context: StoreContext,
    organization: str,
    selector: Selector,
    error_contains: str = "",
    cancelled: bool = False,
) -> RetryOutcome:
    """Put dead letters with such an error back into the queue, and what was cancelled if asked."""
    step: TakeStep
    if isinstance(selector, QueueSelector):
        owner, queue = await context.place(organization, selector.queue_name)
        step = partial(_retry_queue, queue=queue, error_contains=error_contains)
    else:
        values = {"organization": organization, "batch_id": selector.batch_id}
        async with borrowed(context.pool) as connection:
            rows = await fetch(connection, "find_batch", **values)
        if not rows:
            raise not_found(f"there is no batch {selector.batch_id!r}")
        owner = await context.owner(organization)
        step = partial(
            _retry_batch, batch=rows[0][0], error_contains=error_contains, cancelled=cancelled
        )
    done = await in_steps(context, owner, selector.request_id, step)
    return done.retried(context.prefix)


async def cancel_noted(context: StoreContext) -> None:
    """Cancel what is left of the batches that are noted as to be cancelled."""
    while await run(context, _cancel_noted):
        pass


async def _cancel_noted(tx: Transaction) -> bool:
    async with tx.pipeline():
        await tx.begin()
        found = await take_noted(tx)
        await tx.commit()
    return found


async def take_noted(tx: Transaction) -> bool:
    """Cancel more of a batch that is noted, within a transaction; False where there is none."""
    rows = await tx.rows("find_cancelled")
    for batch, after in rows:
        step = await _cancel(tx, Progress(after=after), batch)
        await tx.send("note_cancelled", batch=batch, after=step.after)
        if step.after is not None:
            # The sweep of some server goes on with it, should this one die.
            tx.deltas.due_at(tx.now)
    return bool(rows)


async def _cancel(tx: Transaction, so_far: Progress, batch: int) -> Step:
    places = await tx.rows("list_places_of_batch", batch=batch, after=so_far.after, limit=STEP_JOBS)
    jobs = await _locked(tx, places, (Status.PENDING, Status.SCHEDULED))
    return Step(await _apply(tx, jobs, Cancel()), _following(places))


async def _retry_batch(
    tx: Transaction, so_far: Progress, batch: int, error_contains: str, cancelled: bool
) -> Step:
    statuses = (Status.DEADLETTER, Status.CANCELLED) if cancelled else (Status.DEADLETTER,)
    places = await tx.rows("list_places_of_batch", batch=batch, after=so_far.after, limit=STEP_JOBS)
    await batch_marks.unsettle(tx, [seq for (seq,) in places])
    jobs = await _locked(tx, places, statuses)
    stripped = [job.seq for job in jobs if is_stripped(job.state)]
    changed = await _apply(tx, await _wanted(tx, jobs, error_contains), Retry(cancelled))
    return Step(changed, _following(places), stripped)


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
            refusals.append(why_not_revised(job.state, revision))
            if refusals[-1] is None:
                tx.deltas.apply(job, event_of(revision), tx.now)
            if refusals[-1] is None and revision.payload is not None:
                await tx.send("change_payload", seq=number, payload=revision.payload)
        await tx.write(found.values())
        await _give_turns_again(tx, found.values())
        await tx.commit()
    return refusals


async def _purge(tx: Transaction, so_far: Progress, queue: int) -> Step:
    highest = so_far.highest
    if highest is None:
        ((highest,),) = await tx.rows("read_last_number", queue=queue)
    # What was cancelled is not found again, so there is no place to go on from.
    values = {"queue": queue, "highest": highest, "limit": STEP_JOBS}
    ready = await tx.locked("lock_ready", **values)
    retrying = await tx.locked("lock_retrying", **values)
    changed = await _apply(tx, [*ready, *retrying], Purge())
    is_last = max(len(ready), len(retrying)) < STEP_JOBS
    return Step(changed, None if is_last else 0, highest=highest)


async def _retry_queue(tx: Transaction, so_far: Progress, queue: int, error_contains: str) -> Step:
    places = await tx.rows("list_dead_of_queue", queue=queue, after=so_far.after, limit=STEP_JOBS)
    await batch_marks.unsettle(tx, [seq for (seq,) in places])
    jobs = await _locked(tx, places, (Status.DEADLETTER,))
    changed = await _apply(tx, await _wanted(tx, jobs, error_contains), Retry())
    return Step(changed, _following(places))


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
    if isinstance(event, Retry):
        await _give_turns_again(tx, jobs)
    return changed


async def _give_turns_again(tx: Transaction, jobs: Iterable[LockedJob]) -> None:
    """Let jobs that were put back into their queues take turns from now on."""
    seqs = [job.seq for job in jobs if job.changed and job.state.is_in_line]
    if seqs:
        await tx.send("give_turns_again", seqs=seqs)


def _following(places: Rows) -> int | None:
    """Return the place to go on from; None at the end."""
    return places[-1][0] if len(places) == STEP_JOBS else None
