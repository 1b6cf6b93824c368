"""What time brings: jobs become due, leases run out. Done by whichever server is there."""

from __future__ import annotations

import asyncio

from spooled_pipelines.server.core.job_rules import expiry_error
from spooled_pipelines.server.core.records import Status
from spooled_pipelines.server.store.postgres.settling import Held, bury, left_processing, write
from spooled_pipelines.server.store.postgres.transaction import Ground, Rows, Transaction, run

# How many jobs one transaction handles, so that others are not held up for long.
RELEASED_MAX = 1_000
# Where another server is at it: how long until we look whether it got it done.
_OTHERS_SECONDS = 0.1


async def sweep(ground: Ground) -> int | None:
    """Release what is due and take back leases that ran out; returns the next such moment."""
    while True:
        async with ground.turns:
            swept_at, has_more = await run(ground, _sweep)
        if not has_more:
            break
    moment = await run(ground, _next_moment)
    if moment is not None and moment <= swept_at:
        await asyncio.sleep(_OTHERS_SECONDS)
    return moment


async def count_released(tx: Transaction, rows: Rows) -> None:
    """Count what the statement `release_due` made claimable."""
    batches = await tx.batches_of((seq, batch, linked) for seq, _, batch, linked, _ in rows)
    for seq, queue, _, _, status in rows:
        waited = status == Status.PENDING
        tx.tally.move(queue, batches[seq], status, Status.PENDING, was_waiting=waited)


async def _sweep(tx: Transaction) -> tuple[int, bool]:
    """As of when, and whether there is more."""
    async with tx.pipeline():
        await tx.begin()
        released = await tx.rows("release_due", now=tx.now, limit=RELEASED_MAX)
        await count_released(tx, released)
        expired = [
            Held(*row) for row in await tx.rows("lock_expired", now=tx.now, limit=RELEASED_MAX)
        ]
        batches = await tx.batches_of((job.seq, job.batch, job.linked) for job in expired)
        for job in expired:
            job.batches = batches[job.seq]
            error = expiry_error(job.worker_id)
            tx.tally.expired[job.queue] = tx.now
            if job.retry_count >= job.max_retries:
                bury(tx, job, error)
            else:
                job.retry_count += 1
                job.error = error
                left_processing(tx, job, Status.PENDING)
        await write(tx, expired)
        await tx.commit()
    return tx.now, max(len(released), len(expired)) >= RELEASED_MAX


async def _next_moment(tx: Transaction) -> int | None:
    (moments,) = await tx.rows("next_moment")
    return min((moment for moment in moments if moment is not None), default=None)
