"""How many jobs with a limit key run at once: others are held until one gives up its place.

Places are taken only by who holds the row of the key, and counts them anew: so neither servers nor
transactions at the same time let out more than the key may have, whoever dies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spooled_pipelines.server.core.records import Chunk, Status

if TYPE_CHECKING:
    from spooled_pipelines.server.store.postgres.transaction import Transaction


async def keep(tx: Transaction, queue: int, chunk: Chunk) -> None:
    """Keep what a chunk says of its keys, of which jobs are let out before the commit."""
    keys = sorted({key for key in chunk.limit_keys or () if key is not None})
    if keys:
        await tx.send("put_key_limits", queue=queue, keys=keys, most=chunk.limit_per_key)
        tx.deltas.limit_keys.update((queue, key) for key in keys)


async def let_out(tx: Transaction) -> None:
    """Let jobs out of the keys that have room."""
    wanted = sorted(tx.deltas.limit_keys)
    if not wanted:
        return
    values = {"queues": [queue for queue, _ in wanted], "keys": [key for _, key in wanted]}
    # As a statement of its own: the next one sees what those did who had the rows before.
    await tx.rows("lock_key_limits", **values)
    held = await tx.rows("let_out", **values)
    batches = await tx.batches_of((seq, batch, linked) for seq, _, batch, linked in held)
    for seq, queue, _, _ in held:
        tx.deltas.move(queue, batches[seq], Status.PENDING, Status.PENDING, was_waiting=True)
    tx.deltas.limit_keys.clear()
