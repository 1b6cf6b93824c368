"""Operations on batches, within a transaction: open, add rows, seal."""

from __future__ import annotations

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
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.reads import reading
from spooled_pipelines.server.store.sqlite.transactions import Transaction
from spooled_pipelines.server.store.sqlite.upkeep import pruning


def open_batch(tx: Transaction, organization: str, opening: BatchOpening) -> BatchRecord | None:
    """Make a batch or find it; None where one of its name is being forgotten: ask again."""
    owner = tx.names.organization(organization)
    queue = tx.names.queue(owner, opening.queue_name)
    check_key_name(opening, tx.names.key_name(queue))
    row = tx.connection.execute(SQL["find_batch"], (owner, opening.batch_id)).fetchone()
    if row is not None:
        _check_opening(tx, opening, queue, row)
    elif pruning.make_room_for(tx, owner, opening.batch_id):
        return None
    if row is None or opening.generation > row[3]:
        name = opening.name
        if row is not None:
            name = name or row[4]
            tx.connection.execute(SQL["supersede_batch"], (row[0],))
            tx.connection.execute(SQL["forget_chunks"], (row[0],))
            tx.connection.execute(SQL["forget_parts"], (row[0],))
            tx.connection.execute(SQL["forget_uploads"], (row[0],))
            tx.changes.batches.add((organization, opening.batch_id))
        tx.send(
            "add_batch",
            organization=owner,
            batch_id=opening.batch_id,
            queue=queue,
            name=name,
            made_by=opening.made_by,
            generation=opening.generation,
            created_at=tx.now,
            changed_at=tx.now,
        )
    else:
        # A sender of a table must not lose the batch in the middle.
        tx.connection.execute(SQL["use_batch"], (tx.now, row[0]))
        if opening.name:
            tx.connection.execute(SQL["name_batch"], (opening.name, row[0]))
    if opening.cancels_older:
        values = (owner, opening.batch_id, opening.generation)
        tx.connection.execute(SQL["cancel_older"], values)
    number, *_ = find(tx, owner, opening.batch_id)
    if opening.schema is not None:
        tx.connection.execute(SQL["keep_schema"], (number, *opening.schema))
    if opening.limit_by:
        limit = (opening.limit_by, opening.limit_per_key, number)
        tx.connection.execute(SQL["limit_batch"], limit)
    if opening.weight:
        tx.connection.execute(SQL["weigh_batch"], (opening.weight, number))
    if opening.part_id:
        tx.connection.execute(SQL["begin_part"], (number, opening.part_id))
    if opening.rows_id:
        upload = (number, opening.part_id, opening.rows_id, tx.now)
        tx.connection.execute(SQL["begin_upload"], upload)
    return reading.batch(tx, organization, opening.batch_id)


def _check_opening(
    tx: Transaction, opening: BatchOpening, queue: int, row: tuple[int, int, int, int, str]
) -> None:
    if row[1] != queue:
        other = tx.names.queue_topic(row[1])[1]
        raise other_queue(opening, other)
    if opening.generation < row[3]:
        raise superseded(opening.batch_id, opening.generation, row[3])


def finish_part(
    tx: Transaction,
    organization: str,
    batch_id: str,
    generation: int,
    part: PartRecord,
    rows_id: str = "",
) -> PartRecord | RefusedError:
    """Note that the part's last row is in; refused, as a seal, while others of the part go on."""
    owner = tx.names.organization(organization)
    number, *_ = find(tx, owner, batch_id, generation)
    if _others_go_on(tx, number, rows_id, part.part_id):
        return uploads_open(batch_id, part.part_id)
    tx.send("finish_part", batch=number, **part._asdict())
    return part


def seal_batch(
    tx: Transaction,
    organization: str,
    batch_id: str,
    generation: int = 0,
    expected: ExpectedParts = ALL_BEGUN,
    rows_id: str = "",
) -> BatchRecord | RefusedError:
    """Note that the batch's last row is in, if all of its parts are, and all of its uploads.

    A refusal is returned: raised, it would undo that this upload is finished.
    """
    owner = tx.names.organization(organization)
    number, _, sealed, _ = find(tx, owner, batch_id, generation)
    others = _others_go_on(tx, number, rows_id)
    refusal = why_not_complete(batch_id, reading.parts(tx, number), expected)
    if refusal is not None:
        return refusal
    if others:
        if not rows_id:
            return uploads_open(batch_id)
        if not sealed:
            tx.connection.execute(SQL["ask_seal"], (tx.now, number))
            tx.deltas.touched.add(number)
            tx.deltas.due_at(tx.now + UPLOAD_GONE_MS)
    else:
        _seal(tx, number, sealed)
    tx.flush()
    return reading.batch(tx, organization, batch_id)


def _seal(tx: Transaction, number: int, sealed: int) -> None:
    tx.connection.execute(SQL["forget_chunks"], (number,))
    tx.connection.execute(SQL["forget_uploads"], (number,))
    if not sealed:
        tx.connection.execute(SQL["set_sealed"], (1, tx.now, number))
        tx.deltas.touched.add(number)


def seal_abandoned(tx: Transaction) -> bool:
    """Seal a batch whose other uploads are gone; False where there is none."""
    row = tx.connection.execute(SQL["find_sealable"], (tx.now - UPLOAD_GONE_MS,)).fetchone()
    if row is not None:
        _seal(tx, row[0], 0)
    return row is not None


def hear_upload(
    tx: Transaction, organization: str, batch_id: str, part_id: str, rows_id: str
) -> None:
    """Note that an upload goes on."""
    number, *_ = find(tx, tx.names.organization(organization), batch_id)
    tx.connection.execute(SQL["hear_upload"], (tx.now, number, part_id, rows_id))


def _others_go_on(tx: Transaction, batch: int, rows_id: str, part_id: str = "") -> bool:
    """Finish an upload; return whether others go on."""
    if rows_id:
        tx.connection.execute(SQL["finish_upload"], (batch, part_id, rows_id))
    since = tx.now - UPLOAD_GONE_MS
    return bool(tx.rows("find_upload", batch=batch, since=since, part_id=part_id))


def find(
    tx: Transaction, owner: int, batch_id: str, generation: int | None = None
) -> tuple[int, int, int, int]:
    """Return a batch's newest generation: its number and queue, whether it is sealed, its weight.

    NOT_FOUND where there is none, FAILED_PRECONDITION where another one was meant.
    """
    row = tx.connection.execute(SQL["find_batch"], (owner, batch_id)).fetchone()
    if row is None:
        raise not_found(f"there is no batch {batch_id!r}")
    if generation is not None and generation != row[3]:
        raise superseded(batch_id, generation, row[3])
    return row[0], row[1], row[2], row[5]
