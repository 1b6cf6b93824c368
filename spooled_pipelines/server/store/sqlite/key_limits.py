"""How many jobs with a limit key run at once: others are held until one gives up its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spooled_pipelines.server.core.records import Chunk, Status
from spooled_pipelines.server.store.sqlite.queries import NAMED, SQL

if TYPE_CHECKING:
    from spooled_pipelines.server.store.sqlite.transaction import Transaction


def keep(tx: Transaction, queue: int, chunk: Chunk) -> None:
    """Keep what a chunk says of its keys, of which jobs are let out at the end."""
    for key in {key for key in chunk.limit_keys or () if key is not None}:
        tx.connection.execute(SQL["put_key_limit"], (queue, key, chunk.limit_per_key))
        tx.deltas.limit_keys.add((queue, key))


def let_out(tx: Transaction) -> None:
    """Let jobs out of the keys that have room."""
    for queue, key in sorted(tx.deltas.limit_keys):
        values = {"queue": queue, "key": key}
        held = tx.connection.execute(NAMED["list_held"], values).fetchall()
        for seq, batch, linked in held:
            tx.connection.execute(SQL["let_out"], (seq,))
            batches = tx.batches_of(seq, batch, linked)
            tx.deltas.move(queue, batches, Status.PENDING, Status.PENDING, was_waiting=True)
    tx.deltas.limit_keys.clear()
