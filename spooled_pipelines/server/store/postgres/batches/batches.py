"""Batches opened and sealed."""

from __future__ import annotations

from functools import partial

from spooled_pipelines.server.core.batches.records import (
    ALL_BEGUN,
    BatchOpening,
    BatchRecord,
    ExpectedParts,
    PartRecord,
)
from spooled_pipelines.server.core.batches.rules import (
    UPLOAD_GONE_MS,
    check_key_name,
    other_queue,
    superseded,
    uploads_open,
    why_not_complete,
)
from spooled_pipelines.server.core.errors import RefusedError, not_found
from spooled_pipelines.server.store.postgres.batches import bulk_operations
from spooled_pipelines.server.store.postgres.reads import reading
from spooled_pipelines.server.store.postgres.transactions import StoreContext, Transaction, run
from spooled_pipelines.server.store.postgres.upkeep import pruning


async def open_batch(
    context: StoreContext, organization: str, opening: BatchOpening
) -> BatchRecord:
    """Make a batch or find it."""
    owner, queue = await context.place(organization, opening.queue_name)
    check_key_name(opening, context.names.key_name(queue))
    opened = partial(_open, organization=organization, owner=owner, queue=queue, opening=opening)
    record, more = await run(context, opened)
    while record is None:
        await pruning.make_room_for(context, owner, opening.batch_id)
        record, more = await run(context, opened)
    if record.queue_name != opening.queue_name:
        raise other_queue(opening, record.queue_name)
    if record.generation != opening.generation:
        raise superseded(opening.batch_id, opening.generation, record.generation)
    if more:
        await bulk_operations.cancel_noted(context)
        found = await run(context, lambda tx: reading.batches(tx, organization, [opening.batch_id]))
        return found[0]
    return record


async def _open(
    tx: Transaction, organization: str, owner: int, queue: int, opening: BatchOpening
) -> tuple[BatchRecord | None, bool]:
    """Open the batch, None while one of its name is being forgotten.

    Return as well whether batches are being cancelled.
    """
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
                await tx.send("forget_parts", batch=before)
                await tx.send("forget_chunks", batch=before)
                await tx.send("forget_uploads", batch=before)
                tx.deltas.touched.add(before)
        await tx.send("use_sealed_batch", **values, now=tx.now)
        made_by = opening.made_by.encode()
        await tx.send("add_batch", **values, name=name, made_by=made_by, now=tx.now)
        await tx.send("name_batch", **values, name=name)
        if opening.limit_by:
            limit = {"limit_by": opening.limit_by.encode(), "limit_per_key": opening.limit_per_key}
            await tx.send("limit_batch", **values, **limit)
        if opening.weight:
            await tx.send("weigh_batch", **values, weight=opening.weight)
        if opening.cancels_older:
            await tx.send("cancel_older", **values)
        if opening.schema is not None:
            await tx.send("keep_schema", **values, **opening.schema._asdict())
        part_id, rows_id = opening.part_id.encode(), opening.rows_id.encode()
        if rows_id:
            upload = {"part_id": part_id, "rows_id": rows_id, "now": tx.now}
            await tx.send("begin_upload", **values, **upload)
        if part_id:
            await tx.send("begin_part", **values, part_id=part_id)
        found = await tx.rows("find_batch", organization=organization, batch_id=opening.batch_id)
        if not found:
            await tx.commit()
            return None, False
        (record,) = await reading.batches(tx, organization, [opening.batch_id])
        more = await bulk_operations.take_noted(tx)
        await tx.commit()
    return record, more


async def finish_part(
    context: StoreContext,
    organization: str,
    batch_id: str,
    generation: int,
    part: PartRecord,
    rows_id: str = "",
) -> PartRecord:
    """Note that the part's last row is in; refused while other uploads of the part go on."""

    async def finish(tx: Transaction) -> bool:
        async with tx.pipeline():
            await tx.begin()
            batch, _ = await _locked(tx, "share_batch", organization, batch_id, generation)
            if await _others_go_on(tx, batch, rows_id, part.part_id):
                # This upload is finished even so.
                await tx.commit()
                return False
            values = {**part._asdict(), "part_id": part.part_id.encode()}
            await tx.send("finish_part", batch=batch, **values)
            await tx.commit()
        return True

    if not await run(context, finish):
        raise uploads_open(batch_id, part.part_id)
    return part


async def hear_upload(
    context: StoreContext, organization: str, batch_id: str, part_id: str, rows_id: str
) -> None:
    """Note that an upload goes on."""
    owner = await context.owner(organization)

    async def hear(tx: Transaction) -> None:
        async with tx.pipeline():
            await tx.begin()
            values = {"organization": owner, "batch_id": batch_id, "now": tx.now}
            upload = {"part_id": part_id.encode(), "rows_id": rows_id.encode()}
            await tx.send("hear_upload", **values, **upload)
            await tx.commit()

    await run(context, hear)


async def seal_batch(
    context: StoreContext,
    organization: str,
    batch_id: str,
    generation: int = 0,
    expected: ExpectedParts = ALL_BEGUN,
    rows_id: str = "",
) -> BatchRecord:
    """Note that the batch's last row is in, if all of its parts are, and all of its uploads."""
    batch = (organization, batch_id, generation)
    seal = partial(_seal, batch=batch, expected=expected, rows_id=rows_id)
    sealed = await run(context, seal)
    if isinstance(sealed, RefusedError):
        raise sealed
    return sealed


async def _seal(
    tx: Transaction, batch: tuple[str, str, int], expected: ExpectedParts, rows_id: str
) -> BatchRecord | RefusedError:
    """Seal a batch; a refusal is returned, since this upload is finished even so."""
    organization, batch_id, _ = batch
    async with tx.pipeline():
        await tx.begin()
        # Waits for the chunks that are on their way in.
        number, is_sealed = await _locked(tx, "lock_batch", *batch)
        others = await _others_go_on(tx, number, rows_id)
        refusal = why_not_complete(batch_id, await reading.parts(tx, number), expected)
        if refusal is None and others and not rows_id:
            refusal = uploads_open(batch_id)
        if refusal is not None:
            await tx.commit()
            return refusal
        if others:
            if not is_sealed:
                await tx.send("ask_seal", batch=number, now=tx.now)
                tx.deltas.touched.add(number)
                tx.deltas.due_at(tx.now + UPLOAD_GONE_MS)
        else:
            await _set_sealed(tx, number, is_sealed)
        (record,) = await reading.batches(tx, organization, [batch_id])
        await tx.commit()
    return record


async def _set_sealed(tx: Transaction, number: int, is_sealed: bool) -> None:
    await tx.send("forget_uploads", batch=number)
    await tx.send("forget_chunks", batch=number)
    if not is_sealed:
        await tx.send("set_sealed", batch=number, sealed=True, now=tx.now)
        tx.deltas.touched.add(number)


async def seal_abandoned(context: StoreContext) -> None:
    """Seal the batches whose other uploads are gone."""
    while await run(context, _seal_abandoned):
        pass


async def _seal_abandoned(tx: Transaction) -> bool:
    async with tx.pipeline():
        await tx.begin()
        rows = await tx.rows("find_sealable", since=tx.now - UPLOAD_GONE_MS)
        for (number,) in rows:
            await _set_sealed(tx, number, False)
        await tx.commit()
    return bool(rows)


async def _others_go_on(tx: Transaction, batch: int, rows_id: str, part_id: str = "") -> bool:
    """Finish an upload; return whether others go on."""
    values = {"batch": batch, "part_id": part_id.encode()}
    if rows_id:
        await tx.send("finish_upload", **values, rows_id=rows_id.encode())
    return bool(await tx.rows("find_upload", **values, since=tx.now - UPLOAD_GONE_MS))


async def _locked(
    tx: Transaction, lock: str, organization: str, batch_id: str, generation: int
) -> tuple[int, bool]:
    """Lock a batch of this newest generation; return its number and whether it is sealed."""
    rows = await tx.rows("find_batch", organization=organization, batch_id=batch_id)
    if not rows:
        raise not_found(f"there is no batch {batch_id!r}")
    number, newest = rows[0][0], rows[0][3]
    if generation != newest:
        raise superseded(batch_id, generation, newest)
    locked = await tx.rows(lock, batch=number)
    if not locked or locked[0][2]:
        raise not_found(f"there is no batch {batch_id!r}")
    ((is_sealed, is_superseded, _),) = locked
    if is_superseded:
        raise superseded(batch_id, generation, generation + 1)
    return number, is_sealed
