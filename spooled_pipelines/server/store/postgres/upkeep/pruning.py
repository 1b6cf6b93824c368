"""Letting go of what settled long ago: so many jobs in one transaction."""

from __future__ import annotations

import asyncio
from functools import partial

from spooled_pipelines.server.core.jobs.payloads import payload_digest
from spooled_pipelines.server.core.upkeep.retention import STEP_JOBS, Pruned
from spooled_pipelines.server.store.postgres.transactions import StoreContext, Transaction, run
from spooled_pipelines.server.store.postgres.upkeep import batch_marks

# Of payloads that are read at once, to be hashed.
_PAYLOAD_BYTES = 4 << 20


# Batches without jobs cost something too.
_STEP_BATCHES = 100


# What else a batch has, and itself.
_REST = (
    "forget_uploads",
    "forget_parts",
    "forget_chunks",
    "forget_counters",
    "forget_errors",
    "forget_turns",
    "forget_batch",
    "forget_schemas",
)


class PruningSteps:
    """See `retention.Steps`."""

    def __init__(self, context: StoreContext) -> None:
        self._context = context

    async def strip(self, before: int) -> Pruned:
        return await strip(self._context, before)

    async def forget(self, before: int) -> Pruned:
        return await forget(self._context, before)

    async def forget_dead(self, before: int) -> Pruned:
        async with self._context.claim_turn():
            step = partial(_forget_alone, statement="forget_dead_letters", before=before)
            return await run(self._context, step)

    async def forget_batches(self, before: int, before_dead: int | None) -> Pruned:
        """Forget the next batch when the one before is gone, unless another server is at it."""
        context = self._context
        await batch_marks.note(context)
        room = STEP_JOBS
        for _ in range(_STEP_BATCHES):
            async with context.claim_turn():
                gone = await run(context, partial(_forget_next, limit=room))
                if gone is None:
                    begin = partial(_begin_forgetting, before=before, before_dead=before_dead)
                    if not await run(context, begin):
                        return Pruned(STEP_JOBS - room, more=False)
                    gone = 0
            room -= gone
            if room <= 0:
                break
        return Pruned(STEP_JOBS - room, more=True)


async def strip(context: StoreContext, before: int) -> Pruned:
    """Take payload, result and tags from jobs."""
    async with context.claim_turn():
        return await run(context, partial(_strip, before=before))


async def forget(context: StoreContext, before: int) -> Pruned:
    """Remove jobs that are in no batch, and their keys."""
    async with context.claim_turn():
        return await run(context, partial(_forget_alone, statement="forget_jobs", before=before))


async def make_room_for(context: StoreContext, organization: int, batch_id: str) -> None:
    """Remove the rest of a forgotten batch whose name is wanted again."""
    step = partial(_forget_named, organization=organization, batch_id=batch_id)
    while await run(context, step):
        pass


async def _strip(tx: Transaction, before: int) -> Pruned:
    async with tx.pipeline():
        await tx.begin()
        rows = await tx.rows(
            "lock_strippable", before=before, limit=STEP_JOBS, budget=_PAYLOAD_BYTES
        )
        digests = await asyncio.to_thread(lambda: [payload_digest(row[1]) for row in rows])
        await tx.send("strip_jobs", seqs=[seq for seq, _ in rows], digests=digests)
        gone = await tx.rows("forget_settlements", before=before, limit=STEP_JOBS)
        await tx.commit()
    return Pruned(len(rows), bool(rows or gone))


async def _forget_alone(tx: Transaction, statement: str, before: int) -> Pruned:
    async with tx.pipeline():
        await tx.begin()
        rows = await tx.rows(statement, before=before, limit=STEP_JOBS)
        await tx.send("forget_attempts", seqs=[row[0] for row in rows])
        for _, queue, status, is_expired in rows:
            tx.deltas.add(queue, (), status, -1, expired=is_expired)
        await tx.commit()
    return Pruned(len(rows), len(rows) == STEP_JOBS)


async def _begin_forgetting(tx: Transaction, before: int, before_dead: int | None) -> bool:
    """Hide another batch that is too old from everyone; return False where there is none."""
    async with tx.pipeline():
        await tx.begin()
        await batch_marks.lock(tx)
        rows = await tx.rows("begin_forgetting", before=before, dead=False)
        if not rows and before_dead is not None:
            moment = min(before, before_dead)
            rows = await tx.rows("begin_forgetting", before=moment, dead=True)
        # Those who watch it are told that it is not there.
        tx.deltas.touched.update(batch for (batch,) in rows)
        await tx.commit()
    return bool(rows)


async def _forget_next(tx: Transaction, limit: int) -> int | None:
    """Remove jobs of a forgotten batch; return how many, None where there is no such batch."""
    async with tx.pipeline():
        await tx.begin()
        rows = await tx.rows("find_being_forgotten")
        gone = await _forget_some(tx, rows[0][0], limit) if rows else None
        await tx.commit()
    return gone


async def _forget_named(tx: Transaction, organization: int, batch_id: str) -> bool:
    async with tx.pipeline():
        await tx.begin()
        rows = await tx.rows("find_forgotten", owner=organization, batch_id=batch_id)
        if rows:
            await _forget_some(tx, rows[0][0], STEP_JOBS)
        await tx.commit()
    return bool(rows)


async def _forget_some(tx: Transaction, batch: int, limit: int) -> int:
    """Let go of jobs of a batch, whose row is locked, and of itself after the last."""
    own = await tx.rows("list_own_jobs", batch=batch, limit=limit)
    links = [seq for (seq,) in await tx.rows("list_links", batch=batch, limit=limit)]
    linked = await tx.rows("lock_linked", jobs=links)
    # After the locks: a caller that links one of these jobs meanwhile waits, and finds it gone.
    heirs: dict[int, int] = dict(await tx.rows("find_heirs", seqs=[row[0] for row in own]))
    removed = [row for row in own if row[0] not in heirs]
    seqs = [row[0] for row in removed]
    await tx.send("hand_over", seqs=list(heirs), batches=list(heirs.values()))
    if heirs:
        await tx.send("bring_schemas", batch=batch, seqs=list(heirs))
    await tx.send("remove_jobs", seqs=seqs)
    cut = [*((seq, heir) for seq, heir in heirs.items()), *((row[0], batch) for row in linked)]
    await tx.send(
        "remove_links", seqs=[seq for seq, _ in cut], batches=[number for _, number in cut]
    )
    await tx.send("unmark_linked", seqs=[seq for seq, _ in cut])
    await tx.send("forget_attempts", seqs=seqs)
    for _, queue, status, is_expired in removed:
        tx.deltas.add(queue, (), status, -1, expired=is_expired)
    if len(own) < limit and len(links) < limit:
        for statement in _REST:
            await tx.send(statement, batch=batch)
    return len(own) + len(links)
