"""Looking after the keys of turns and limits, a step in each transaction."""

from __future__ import annotations

from functools import partial

from spooled_pipelines.server.core.upkeep.key_upkeep import STEP_KEYS, Place
from spooled_pipelines.server.store.postgres.transactions import StoreContext, Transaction, run


class KeySteps:
    """See `core.upkeep.key_upkeep`."""

    def __init__(self, context: StoreContext) -> None:
        self._context = context

    async def limits(self, after: Place) -> list[Place]:
        return await run(self._context, partial(_look_after_limits, after=after))

    async def turns(self, after: Place) -> list[Place]:
        return await run(self._context, partial(_look_after_turns, after=after))


async def _look_after_limits(tx: Transaction, after: Place) -> list[Place]:
    queue, key = after
    async with tx.pipeline():
        await tx.begin()
        rows = await tx.rows("walk_limit_keys", queue=queue, key=key, limit=STEP_KEYS)
        places = [(row[0], row[1]) for row in rows]
        room = {place for place, row in zip(places, rows, strict=True) if row[2]}
        unused = {place for place, row in zip(places, rows, strict=True) if not row[3]}
        if unused:
            # All at once in their order, as everyone locks them; then nobody adds jobs of them.
            await tx.rows("lock_key_limits", **_columns(room | unused))
            await tx.send("forget_key_limits", **_columns(unused))
        tx.deltas.limit_keys |= room
        await tx.commit()
    return list(places)


async def _look_after_turns(tx: Transaction, after: Place) -> list[Place]:
    names = ("participant", "queue", "priority", "released")
    *numbers, released = after
    values = dict(zip(names, (*numbers, bool(released)), strict=True))
    async with tx.pipeline():
        await tx.begin()
        rows = await tx.rows("walk_turns", **values, limit=STEP_KEYS)
        over = [row for row in rows if row[5]]
        if over:
            columns = ("participants", "queues", "priorities", "released", "following")
            found = {name: [row[place] for row in over] for place, name in enumerate(columns)}
            await tx.send("forget_turns_of_keys", **found)
        await tx.commit()
    return [tuple(row[:4]) for row in rows]


def _columns(keys: set[tuple[int, int]]) -> dict[str, list[int]]:
    ordered = sorted(keys)
    return {"queues": [queue for queue, _ in ordered], "keys": [key for _, key in ordered]}
