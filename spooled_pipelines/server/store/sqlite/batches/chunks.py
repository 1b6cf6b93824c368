"""Rows of a batch in, as jobs, within a transaction."""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import NamedTuple

from spooled_pipelines.server.core.batches.records import Chunk, ChunkStored
from spooled_pipelines.server.core.batches.rules import (
    check_whole,
    due_of_chunk,
    other_rows,
    status_when_due,
)
from spooled_pipelines.server.core.jobs.payloads import Comparison, compare
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.jobs.turns import RowTurns
from spooled_pipelines.server.store.sqlite.batches.batches import find
from spooled_pipelines.server.store.sqlite.limits import key_limits
from spooled_pipelines.server.store.sqlite.limits.quotas import count_made
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.reads import reading
from spooled_pipelines.server.store.sqlite.reads.records import stored_keys
from spooled_pipelines.server.store.sqlite.transactions import Transaction, turns
from spooled_pipelines.server.store.sqlite.transactions.bulk_insert import insert_rows


class _Existing(NamedTuple):
    seq: int
    status: int
    due_at: int | None
    batch: int | None
    is_expired: int
    # Whether it has the row's payload, byte for byte.
    is_same: int | None


class _Place(NamedTuple):
    """Where a chunk's rows go, as numbers."""

    organization: int
    batch: int
    queue: int
    weight: int


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
    first = tx.numbers.take(place.organization, rows)
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
    counts: Counter[tuple[int, bool, bool]] = Counter()
    for job in duplicates:
        if job.batch == place.batch:
            continue
        if not tx.connection.execute(SQL["add_link"], (place.batch, job.seq)).rowcount:
            continue
        tx.connection.execute(SQL["mark_linked"], (job.seq,))
        counts[job.status, job.due_at is not None, bool(job.is_expired)] += 1
        if job.status == Status.DEADLETTER:
            error = tx.connection.execute(SQL["read_last_error"], (job.seq,)).fetchone()[0]
            tx.deltas.count_error((place.batch,), error or "")
    for (status, waits, is_expired), count in counts.items():
        tx.deltas.add(None, (place.batch,), status, count, waiting=waits, expired=is_expired)
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
