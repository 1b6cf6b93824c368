"""Looking after the keys of turns and limits, a step in each transaction."""

from __future__ import annotations

from functools import partial

from spooled_pipelines.server.core.upkeep.key_upkeep import STEP_KEYS, Place
from spooled_pipelines.server.store.sqlite.transactions import Transaction
from spooled_pipelines.server.store.sqlite.transactions.writer import Writer

_TURN = ("participant", "queue", "priority", "released")


class KeySteps:
    """See `core.upkeep.key_upkeep`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def limits(self, after: Place) -> list[Place]:
        return await self._writer.submit(partial(_look_after_limits, after=after))

    async def turns(self, after: Place) -> list[Place]:
        return await self._writer.submit(partial(_look_after_turns, after=after))


def _look_after_limits(tx: Transaction, after: Place) -> list[Place]:
    rows = tx.rows("walk_limit_keys", queue=after[0], key=after[1], limit=STEP_KEYS)
    for queue, key, has_room, is_used in rows:
        if has_room:
            tx.deltas.limit_keys.add((queue, key))
        if not is_used:
            tx.send("forget_key_limit", queue=queue, key=key)
    return [tuple(row[:2]) for row in rows]


def _look_after_turns(tx: Transaction, after: Place) -> list[Place]:
    rows = tx.rows("walk_turns", **dict(zip(_TURN, after, strict=True)), limit=STEP_KEYS)
    for *place, is_over in rows:
        if is_over:
            tx.send("forget_turns_of_key", **dict(zip(_TURN, place, strict=True)))
    return [tuple(row[:4]) for row in rows]
