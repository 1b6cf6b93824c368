"""How many jobs with a limit key run at once: others are held until one gives up its place.

A transaction takes places only while it holds the key's row, and counts them again: so neither
servers nor transactions at the same time let out more than the key may have, even if some die.
"""

from __future__ import annotations

from spooled_pipelines.server.core.batches.records import Chunk
from spooled_pipelines.server.core.upkeep.key_upkeep import LIMITS_EVERY_MS
from spooled_pipelines.server.store.postgres.transactions import Transaction


async def keep(tx: Transaction, queue: int, chunk: Chunk) -> None:
    """Keep what a chunk says of its keys, of which jobs are let out before the commit."""
    keys = sorted({key for key in chunk.limit_keys or () if key is not None})
    if keys:
        await tx.send("put_key_limits", queue=queue, keys=keys, most=chunk.limit_per_key)
        tx.deltas.limit_keys.update((queue, key) for key in keys)
        tx.deltas.due_at(tx.now + LIMITS_EVERY_MS)
