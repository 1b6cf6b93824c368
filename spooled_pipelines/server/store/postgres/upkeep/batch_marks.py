"""Which batches are settled.

Their counters are in shards that nobody adds up when a job settles. So it is noted afterwards, and
only looked for among those of which it is not noted yet.
"""

from __future__ import annotations

from collections.abc import Sequence

from spooled_pipelines.server.store.postgres.transactions import StoreContext, Transaction, run

_LOCK = "spooled.settled_batches"
_STEP_BATCHES = 1_000


async def note(context: StoreContext) -> None:
    """Note it of every batch that settled by now."""
    while await run(context, _note) == _STEP_BATCHES:
        pass


async def lock(tx: Transaction) -> None:
    """Keep others from noting batches, and from giving those anything to do, until the commit."""
    await tx.send("lock_settling", lock=_LOCK)


async def unsettle(tx: Transaction, seqs: Sequence[int]) -> None:
    """Take back, before any job is locked, that batches of these jobs are settled."""
    await lock(tx)
    await tx.send("unsettle", seqs=list(seqs))


async def _note(tx: Transaction) -> int:
    async with tx.pipeline():
        await tx.begin()
        await lock(tx)
        rows = await tx.rows("note_settled", limit=_STEP_BATCHES)
        await tx.commit()
    return len(rows)
