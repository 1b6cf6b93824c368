"""Batches opened and sealed."""

from __future__ import annotations

from functools import partial

from spooled_pipelines.server.errors import not_found
from spooled_pipelines.server.generations import other_queue, superseded
from spooled_pipelines.server.postgres import pruning, reading
from spooled_pipelines.server.postgres.transaction import Ground, Transaction, run
from spooled_pipelines.server.records import BatchOpening, BatchRecord


async def open_batch(ground: Ground, organization: str, opening: BatchOpening) -> BatchRecord:
    """Make a batch or find it."""
    owner, queue = await ground.place(organization, opening.queue_name)
    opened = partial(_open, organization=organization, owner=owner, queue=queue, opening=opening)
    record = await run(ground, opened)
    while record is None:
        await pruning.make_room_for(ground, owner, opening.batch_id)
        record = await run(ground, opened)
    if record.queue_name != opening.queue_name:
        raise other_queue(opening, record.queue_name)
    if record.generation != opening.generation:
        raise superseded(opening.batch_id, opening.generation, record.generation)
    return record


async def _open(
    tx: Transaction, organization: str, owner: int, queue: int, opening: BatchOpening
) -> BatchRecord | None:
    """None where a batch of this name is being forgotten: it must go before."""
    async with tx.pipeline():
        await tx.begin()
        values = {
            "organization": owner,
            "batch_id": opening.batch_id,
            "queue": queue,
            "generation": opening.generation,
        }
        name = opening.name.encode()
        if opening.generation:
            for before, old_name in await tx.rows("supersede_batch", **values):
                name = name or old_name
                await tx.send("forget_chunks", batch=before)
                tx.tally.touched.add(before)
        await tx.send("use_sealed_batch", **values, now=tx.now)
        await tx.send("add_batch", **values, name=name, now=tx.now)
        await tx.send("name_batch", **values, name=name)
        found = await tx.rows("find_batch", organization=organization, batch_id=opening.batch_id)
        if not found:
            await tx.commit()
            return None
        (record,) = await reading.batches(tx.connection, organization, [opening.batch_id], tx.now)
        await tx.commit()
    return record


async def seal_batch(
    ground: Ground, organization: str, batch_id: str, generation: int
) -> BatchRecord:
    """Note that the batch's last row is in."""
    sealing = partial(_seal, organization=organization, batch_id=batch_id, generation=generation)
    return await run(ground, sealing)


async def _seal(tx: Transaction, organization: str, batch_id: str, generation: int) -> BatchRecord:
    async with tx.pipeline():
        await tx.begin()
        rows = await tx.rows("find_batch", organization=organization, batch_id=batch_id)
        if not rows:
            raise not_found(f"there is no batch {batch_id!r}")
        batch, newest = rows[0][0], rows[0][3]
        if generation != newest:
            raise superseded(batch_id, generation, newest)
        # Waits for the chunks that are on their way in.
        locked = await tx.rows("lock_batch", batch=batch)
        if not locked or locked[0][2]:
            raise not_found(f"there is no batch {batch_id!r}")
        ((is_sealed, is_superseded, _),) = locked
        if is_superseded:
            raise superseded(batch_id, generation, generation + 1)
        await tx.send("forget_chunks", batch=batch)
        if not is_sealed:
            await tx.send("set_sealed", batch=batch, sealed=True, now=tx.now)
            tx.tally.touched.add(batch)
        (record,) = await reading.batches(tx.connection, organization, [batch_id], tx.now)
        await tx.commit()
    return record
