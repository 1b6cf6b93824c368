"""How many jobs with a limit key run at once: others are held until one gives up its place."""

from __future__ import annotations

from spooled_pipelines.server.core.batches.records import Chunk
from spooled_pipelines.server.core.upkeep.key_upkeep import LIMITS_EVERY_MS
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.transactions import Transaction


def keep(tx: Transaction, queue: int, chunk: Chunk) -> None:
    """Keep what a chunk says of its keys, of which jobs are let out at the end."""
    for key in {key for key in chunk.limit_keys or () if key is not None}:
        tx.connection.execute(SQL["put_key_limit"], (queue, key, chunk.limit_per_key))
        tx.deltas.limit_keys.add((queue, key))
        tx.deltas.due_at(tx.now + LIMITS_EVERY_MS)
