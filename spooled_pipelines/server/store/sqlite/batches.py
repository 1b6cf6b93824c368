"""Operations on batches, within a transaction: open, add rows, seal."""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import NamedTuple

from spooled_pipelines.server.core.batch_records import (
    ALL_BEGUN,
    BatchOpening,
    BatchRecord,
    Chunk,
    ChunkStored,
    ExpectedParts,
    PartRecord,
)
from spooled_pipelines.server.core.batch_rules import (
    UPLOAD_GONE_MS,
    check_whole,
    due_of_chunk,
    other_queue,
    other_rows,
    status_when_due,
    superseded,
    uploads_open,
    why_not_complete,
)
from spooled_pipelines.server.core.errors import RefusedError, not_found
from spooled_pipelines.server.core.payloads import Comparison, compare
from spooled_pipelines.server.core.records import Status
from spooled_pipelines.server.core.turns import RowTurns
from spooled_pipelines.server.store.sqlite import key_limits, pruning, reading, turns
from spooled_pipelines.server.store.sqlite.bulk_insert import insert_rows
from spooled_pipelines.server.store.sqlite.jobs import stored_keys
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.quotas import count_made
from spooled_pipelines.server.store.sqlite.transaction import Transaction


class _Existing(NamedTuple):
    seq: int
    status: int
    due_at: int | None
    batch: int | None
    # Whether it has the row's payload, byte for byte.
    is_same: int | None


class _Place(NamedTuple):
    """Where a chunk's rows go, as numbers."""

    organization: int
    batch: int
    queue: int
    weight: int


def open_batch(tx: Transaction, organization: str, opening: BatchOpening) -> BatchRecord | None:
    """Make a batch or find it; None where one of its name is being forgotten: ask again."""
    owner = tx.names.organization(organization)
    queue = tx.names.queue(owner, opening.queue_name)
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


def add_chunk(tx: Transaction, organization: str, chunk: Chunk) -> ChunkStored:
    """Store rows as jobs of a batch; the same chunk of an upload again has the same outcome."""
    owner = tx.names.organization(organization)
    batch, queue, sealed, weight = find(tx, owner, chunk.batch_id, chunk.generation)
    place = _Place(owner, batch, queue, weight)
    keys = stored_keys(chunk.keys)
    upload = (batch, chunk.upload_id, chunk.number)
    kept = tx.connection.execute(SQL["read_chunk"], upload).fetchone()
    if kept is not None:
        return _replayed(tx, place, chunk, keys, *kept)
    check_whole(chunk)
    stored, linked = _store_rows(tx, place, chunk, keys)
    count_made(tx, organization, stored.rows - len(stored.duplicates))
    tx.send(
        "write_chunk",
        batch=batch,
        upload_id=chunk.upload_id,
        number=chunk.number,
        rows=len(keys),
        duplicates=_packed(stored.duplicates),
        changed=_packed(stored.changed),
        replaced=_packed(stored.replaced),
    )
    if stored.changed:
        counts = (len(stored.changed), len(stored.replaced), batch)
        tx.connection.execute(SQL["count_changed"], counts)
        tx.deltas.touched.add(batch)
    if sealed:
        tx.connection.execute(SQL["use_batch"], (tx.now, batch))
    is_new = bool(linked or stored.rows > len(stored.duplicates))
    if sealed and is_new:
        tx.connection.execute(SQL["set_sealed"], (0, tx.now, batch))
        tx.deltas.touched.add(batch)
    if chunk.part_id and is_new:
        tx.connection.execute(SQL["reopen_part"], (batch, chunk.part_id))
    return stored


def _replayed(
    tx: Transaction,
    place: _Place,
    chunk: Chunk,
    keys: Sequence[str | bytes],
    rows: int,
    *places: bytes,
) -> ChunkStored:
    found = [job for job in _existing(tx, place, keys) if job is not None]
    # Each row of a chunk that came before is a job of the batch.
    if not len(found) == len(keys) == rows or not all(_has(tx, place, job) for job in found):
        raise other_rows(chunk)
    return ChunkStored(rows, None, [job.seq for job in found], *map(_unpacked, places))


def _store_rows(
    tx: Transaction, place: _Place, chunk: Chunk, keys: Sequence[str | bytes]
) -> tuple[ChunkStored, int]:
    rows = len(keys)
    first = tx.numbers.take(rows)
    due = due_of_chunk(chunk, tx.now)
    row_turns = RowTurns(place.batch, place.weight, chunk.priorities, due, chunk.fair_keys, rows)
    firsts = turns.take(tx, place.queue, row_turns.lengths)
    inserted = insert_rows(
        tx.connection,
        {
            "seq": range(first, first + rows),
            "organization": place.organization,
            "queue": place.queue,
            "status": Status.PENDING if due is None else list(map(status_when_due, due)),
            "priority": chunk.priorities,
            "due_at": due,
            "round": row_turns.rounds(firsts),
            "batch": place.batch,
            "max_retries": chunk.max_retries,
            "timeout_seconds": chunk.timeout_seconds,
            "created_at": tx.now,
            "scheduled_at": chunk.scheduled_at,
            "retry_backoff": chunk.retry_backoff,
            "fair_key": chunk.fair_keys,
            "expires_at": chunk.expires_at,
            "limit_key": chunk.limit_keys,
            "idempotency_key": keys,
            "schema_id": chunk.schema_id,
            "tags": chunk.tags,
            "payload": chunk.payloads,
        },
    )
    tx.deltas.expires_at(chunk.expires_at)
    key_limits.keep(tx, place.queue, chunk)
    if inserted == rows:
        tx.deltas.add_created(place.queue, (place.batch,), rows, due)
        return ChunkStored(rows, first, (), ()), 0
    # Each is there now, this call's or another's.
    found = [job for job in _existing(tx, place, keys, chunk.payloads) if job is not None]
    # A row made its job if that job has the number that was meant for the row.
    mine = [number for number, job in enumerate(found) if job.seq == first + number]
    duplicates = [number for number, job in enumerate(found) if job.seq != first + number]
    turns.give_back(tx, place.queue, row_turns.unused(duplicates))
    due_of_mine = None if due is None else [due[number] for number in mine]
    tx.deltas.add_created(place.queue, (place.batch,), len(mine), due_of_mine, len(duplicates))
    linked = _link(tx, place, (found[number] for number in duplicates))
    compared = _compare(tx, place, chunk, found, duplicates)
    stored = ChunkStored(
        rows, None, [job.seq for job in found], duplicates, compared.changed, compared.replaced
    )
    return stored, linked


def _compare(
    tx: Transaction,
    place: _Place,
    chunk: Chunk,
    found: Sequence[_Existing],
    duplicates: Iterable[int],
) -> Comparison:
    """Find the rows with other payloads than their jobs, which get them where they may."""
    other = {found[row].seq for row in duplicates if not found[row].is_same}
    rows = [
        (row, found[row].seq, chunk.payloads[row]) for row in duplicates if found[row].seq in other
    ]
    lengths = {(seq, len(payload)) for _, seq, payload in rows}
    kept = (reading.kept(tx, *one) for one in lengths)
    compared = compare(rows, kept, place.queue, chunk.replaceable)
    for seq, payload in compared.payloads.items():
        tx.connection.execute(SQL["replace_payload"], (payload, chunk.schema_id, seq))
        tx.connection.execute(SQL["bring_schema"], (place.batch, seq))
    return compared


def _link(tx: Transaction, place: _Place, duplicates: Iterable[_Existing]) -> int:
    """Make jobs that others made part of this batch as well; returns how many were not yet."""
    counts: Counter[tuple[int, bool]] = Counter()
    for job in duplicates:
        if job.batch == place.batch:
            continue
        if not tx.connection.execute(SQL["add_link"], (place.batch, job.seq)).rowcount:
            continue
        tx.connection.execute(SQL["mark_linked"], (job.seq,))
        counts[job.status, job.due_at is not None] += 1
        if job.status == Status.DEADLETTER:
            error = tx.connection.execute(SQL["read_last_error"], (job.seq,)).fetchone()[0]
            tx.deltas.count_error((place.batch,), error or "")
    for (status, due), count in counts.items():
        tx.deltas.add(None, (place.batch,), status, count, waiting=due)
    return counts.total()


def _has(tx: Transaction, place: _Place, job: _Existing) -> bool:
    if job.batch == place.batch:
        return True
    values = (place.batch, job.seq)
    return tx.connection.execute(SQL["find_link"], values).fetchone() is not None


def _existing(
    tx: Transaction,
    place: _Place,
    keys: Sequence[str | bytes],
    payloads: Iterable[bytes | None] = repeat(None),
) -> list[_Existing | None]:
    read, statement, owner = tx.connection.execute, SQL["find_job_of_row"], place.organization
    # The keys come to an end.
    pairs = zip(keys, payloads, strict=False)
    rows = (read(statement, (payload, owner, key)).fetchone() for key, payload in pairs)
    return [row and _Existing._make(row) for row in rows]


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


def _packed(places: Sequence[int]) -> bytes:
    numbers = array("i", places)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _unpacked(packed: bytes) -> list[int]:
    numbers = array("i", packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
