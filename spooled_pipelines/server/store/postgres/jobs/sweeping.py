"""What time brings: jobs become due, leases run out. Done by whichever server is there."""

from __future__ import annotations

import asyncio

from spooled_pipelines.server.core.batches.rules import UPLOAD_GONE_MS
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.jobs.rules import Expire, LeaseExpiry
from spooled_pipelines.server.store.limits import SWEEP_JOBS
from spooled_pipelines.server.store.postgres.batches import batches as batch_operations
from spooled_pipelines.server.store.postgres.batches import bulk_operations
from spooled_pipelines.server.store.postgres.transactions import (
    Rows,
    StoreContext,
    Transaction,
    run,
)

# Where another server is at it: how long until we look whether it got it done.
_OTHERS_SECONDS = 0.1
# Leases that are looked at in one statement, and their jobs.
_LEASES, _LEASED_JOBS = 1_000, 20_000


async def sweep(context: StoreContext) -> int | None:
    """Release what is due and take back leases that ran out; returns the next such moment."""
    while True:
        while await run(context, _forget_leases):
            pass
        async with context.claim_turn():
            swept_at, has_more = await run(context, lambda tx: _sweep(tx, context))
        if not has_more:
            break
    moment, more = await run(context, _next_moment)
    if moment is not None and moment <= swept_at:
        await batch_operations.seal_abandoned(context)
    if more:
        await bulk_operations.cancel_noted(context)
    now = context.clock.now()
    # What became due while a claim takes long waits for it.
    is_held_back = context.before_claims(now) < now and moment is not None and moment <= now
    if is_held_back or (moment is not None and moment <= swept_at):
        await asyncio.sleep(_OTHERS_SECONDS)
    return moment


async def count_released(tx: Transaction, rows: Rows) -> None:
    """Count what the statement `release_due` made claimable."""
    batches = await tx.batches_of((row[0], row[2], row[3]) for row in rows)
    for seq, queue, _, _, status, limit_key in rows:
        waited, is_held = status == Status.PENDING, limit_key is not None
        tx.deltas.move(
            queue, batches[seq], status, Status.PENDING, was_waiting=waited, waiting=is_held
        )
        if is_held:
            tx.deltas.limit_keys.add((queue, limit_key))


async def _sweep(tx: Transaction, context: StoreContext) -> tuple[int, bool]:
    """Sweep once; return as of when, and whether there is more."""
    tx.now = context.before_claims(tx.now)
    async with tx.pipeline():
        await tx.begin()
        released = await tx.rows("release_due", now=tx.now, limit=SWEEP_JOBS)
        await count_released(tx, released)
        expired = await tx.locked("lock_expired", now=tx.now, limit=SWEEP_JOBS)
        for job in expired:
            tx.deltas.apply(job, LeaseExpiry(), tx.now)
            tx.deltas.expired[job.queue] = tx.now
        await tx.write(expired)
        late = await tx.locked("lock_too_late", now=tx.now, limit=SWEEP_JOBS)
        for job in late:
            tx.deltas.apply(job, Expire(), tx.now)
        await tx.write(late)
        await tx.commit()
    # Leases that ended are forgotten before the next.
    return tx.now, bool(expired) or max(len(released), len(late)) >= SWEEP_JOBS


async def _forget_leases(tx: Transaction) -> bool:
    """Forget leases whose jobs have settled; return whether there may be many more of them."""
    async with tx.pipeline():
        await tx.begin()
        ((looked, gone),) = await tx.rows("forget_leases", limit=_LEASES, most=_LEASED_JOBS)
        await tx.send("commit")
    return bool(gone) and gone * 2 >= looked


async def _next_moment(tx: Transaction) -> tuple[int | None, bool]:
    """Return the next moment, and whether there is more to do now."""
    ((*moments, more),) = await tx.rows("read_next_moment", gone=UPLOAD_GONE_MS)
    return min((moment for moment in moments if moment is not None), default=None), more
