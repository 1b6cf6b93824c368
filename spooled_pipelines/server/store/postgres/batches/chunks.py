"""Rows of a batch in, as jobs: copied straight into the table where none is there already."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import psycopg

from spooled_pipelines.server.core.batches.records import Chunk, ChunkStored
from spooled_pipelines.server.core.batches.rules import (
    check_whole,
    due_of_chunk,
    other_rows,
    superseded,
)
from spooled_pipelines.server.core.errors import not_found
from spooled_pipelines.server.core.jobs.payloads import KeptPayload, compare
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.jobs.turns import Participant, Rounds, RowTurns
from spooled_pipelines.server.store.postgres.batches.copy_format import Copy, stored_keys
from spooled_pipelines.server.store.postgres.limits import key_limits
from spooled_pipelines.server.store.postgres.limits.quotas import count_made
from spooled_pipelines.server.store.postgres.transactions import (
    QueueTurn,
    StoreContext,
    Transaction,
    forgotten_meanwhile,
    run,
)

# So many chunks at once; the other connections are for everyone else.
_AT_ONCE = 4
_BATCHES_REMEMBERED = 1_000


class _IsWholeError(Exception):
    """The batch was sealed meanwhile, or the part finished, so it must be locked exclusively."""


class _Place(NamedTuple):
    """Where a chunk's rows go, as numbers; `first` is the number of its first row."""

    organization: int
    batch: int
    queue: int
    first: int
    turns: RowTurns
    # The round of each row.
    rounds: Rounds | list[int]


class _Whole(NamedTuple):
    """What seemed to have all of its rows before the chunk came: the batch, its part."""

    batch: bool
    part: bool


class _Existing(NamedTuple):
    """A job that has the key of a row."""

    seq: int
    batch: int | None


class _InFlight:
    """A chunk that is being stored."""

    def __init__(self, organization: str, chunk: Chunk, keys: Sequence[bytes]) -> None:
        self.batch = (organization, chunk.batch_id)
        self.chunk = chunk
        self.keys = keys
        self.distinct = frozenset(keys)
        self.numbered = asyncio.Event()
        self.ended = asyncio.Event()

    async def go_ahead(self, before: Sequence[_InFlight]) -> None:
        """Wait until it can be stored as if those before it had been stored already."""
        for other in before:
            # Each is numbered in its turn; a row that both have is the earlier one's.
            collide = not self.distinct.isdisjoint(other.distinct)
            await (other.ended if collide else other.numbered).wait()


class Chunks:
    """Stores chunks, each in a transaction of its own, several at once.

    The outcome is as if those of one batch had come one after the other.
    """

    def __init__(self, context: StoreContext) -> None:
        self._context = context
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._in_flight: list[_InFlight] = []
        # Batches whose last chunk had duplicates: the next one will have some as well.
        self._repeated: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def add(self, organization: str, chunk: Chunk) -> ChunkStored:
        """Store rows as jobs; the same chunk of an upload again has the same outcome."""
        owner = await self._context.owner(organization)
        mine = _InFlight(organization, chunk, stored_keys(chunk.keys))
        before = [other for other in self._in_flight if other.batch == mine.batch]
        self._in_flight.append(mine)
        try:
            # Not the other way round: who waits must not take the room of those before it.
            await mine.go_ahead(before)
            async with self._room:
                stored = await self._store(owner, mine)
        finally:
            self._in_flight.remove(mine)
            mine.numbered.set()
            mine.ended.set()
        self._remember(mine.batch, bool(stored.duplicates))
        return stored

    async def _store(self, owner: int, mine: _InFlight) -> ChunkStored:
        staged = mine.batch in self._repeated
        while True:
            with contextlib.suppress(_IsWholeError):
                quota = self._context.quotas.of(mine.batch[0])
                add = partial(_add, owner=owner, mine=mine, staged=staged, quota=quota)
                return await run(self._context, add)

    def _remember(self, batch: tuple[str, str], repeated: bool) -> None:
        self._repeated.pop(batch, None)
        if repeated:
            self._repeated[batch] = None
            if len(self._repeated) > _BATCHES_REMEMBERED:
                self._repeated.popitem(last=False)


async def _add(
    tx: Transaction, owner: int, mine: _InFlight, staged: bool, quota: int | None
) -> ChunkStored:
    chunk, keys = mine.chunk, mine.keys
    place, was = await _find(tx, owner, mine)
    mine.numbered.set()
    upload = {
        "batch": place.batch,
        "upload_id": chunk.upload_id.encode(),
        "number": chunk.number,
    }
    async with tx.pipeline():
        await tx.begin()
        lock = "lock_batch" if was.batch else "share_batch"
        found = await tx.rows(lock, batch=place.batch)
        if not found or found[0][2]:
            raise not_found(f"there is no batch {chunk.batch_id!r}")
        ((is_sealed, is_superseded, _),) = found
        if is_superseded:
            # At least by the next one.
            raise superseded(chunk.batch_id, chunk.generation, chunk.generation + 1)
        is_finished = await _lock_part(tx, place, chunk, was.part)
        if (is_sealed and not was.batch) or (is_finished and not was.part):
            raise _IsWholeError
        if is_sealed:
            await tx.send("use_batch", batch=place.batch, now=tx.now)
        # Waits for another caller that stores the same chunk at the same time.
        if not await tx.rows("take_chunk", **upload, rows=len(keys)):
            stored = await _replayed(tx, place, chunk, keys, upload)
            await tx.return_turns(_of_queue(place.queue, place.turns.lengths))
            await tx.commit()
            return stored
        check_whole(chunk)
        await tx.send("keep_so_far")
    staged = await _bring_in(tx, place, chunk, keys, staged)
    async with tx.pipeline():
        stored, linked = await _settle(tx, place, chunk, keys, staged)
        await key_limits.keep(tx, place.queue, chunk)
        if stored.duplicates:
            changed, replaced = list(stored.changed), list(stored.replaced)
            places = {"changed": changed, "replaced": replaced}
            unused = place.turns.unused(stored.duplicates)
            await tx.return_turns(_of_queue(place.queue, unused))
            await tx.send("write_chunk", **upload, duplicates=list(stored.duplicates), **places)
            if changed:
                counts = {"changed": len(changed), "replaced": len(replaced)}
                await tx.send("count_changed", batch=place.batch, **counts)
                tx.deltas.touched.add(place.batch)
        is_new = bool(linked or stored.rows > len(stored.duplicates))
        if is_finished and is_new:
            await tx.send("reopen_part", batch=place.batch, part_id=chunk.part_id.encode())
        if is_sealed and is_new:
            await tx.send("set_sealed", batch=place.batch, sealed=False, now=tx.now)
            tx.deltas.touched.add(place.batch)
        await count_made(tx, owner, quota, stored.rows - len(stored.duplicates))
        await tx.commit()
    return stored


async def _lock_part(tx: Transaction, place: _Place, chunk: Chunk, was_finished: bool) -> bool:
    """Lock the chunk's part; return whether it is finished, which it stays until the commit."""
    if not chunk.part_id:
        return False
    lock = "lock_part" if was_finished else "share_part"
    found = await tx.rows(lock, batch=place.batch, part_id=chunk.part_id.encode())
    return bool(found and found[0][0])


async def _find(tx: Transaction, owner: int, mine: _InFlight) -> tuple[_Place, _Whole]:
    """Take numbers for the rows; return where they go, and what is whole without them."""
    organization, batch_id = mine.batch
    found = await tx.rows("find_batch", organization=organization, batch_id=batch_id)
    if not found:
        raise not_found(f"there is no batch {batch_id!r}")
    ((batch, queue, is_sealed, newest, weight),) = found
    if mine.chunk.generation != newest:
        raise superseded(batch_id, mine.chunk.generation, newest)
    part_id = mine.chunk.part_id.encode()
    parts = await tx.rows("find_part", batch=batch, part_id=part_id) if part_id else []
    rows = len(mine.keys)
    due = due_of_chunk(mine.chunk, tx.now)
    turns = RowTurns(batch, weight, mine.chunk.priorities, due, mine.chunk.fair_keys, rows)
    numbers, firsts = await tx.numbers({owner: rows}, _of_queue(queue, turns.lengths))
    rounds = turns.rounds({one: place for (_, one), place in firsts.items()})
    whole = _Whole(is_sealed, bool(parts and parts[0][0]))
    return _Place(owner, batch, queue, numbers[owner], turns, rounds), whole


def _of_queue(queue: int, lengths: dict[Participant, int]) -> dict[QueueTurn, int]:
    return {(queue, one): length for one, length in lengths.items()}


async def _bring_in(
    tx: Transaction, place: _Place, chunk: Chunk, keys: Sequence[bytes], staged: bool
) -> bool:
    """Copy the rows into the table, or to where they are staged; returns whether they are."""
    copy = await asyncio.to_thread(
        Copy,
        chunk,
        keys,
        first=place.first,
        organization=place.organization,
        queue=place.queue,
        batch=place.batch,
        rounds=place.rounds,
        now=tx.now,
    )
    if not staged:
        try:
            await _copy(tx, copy, "jobs")
        except psycopg.errors.UniqueViolation:
            await tx.send("back_to_so_far")
        else:
            return False
    await tx.send("create_staging")
    await _copy(tx, copy, "staged_jobs")
    return True


async def _copy(tx: Transaction, copy: Copy, table: str) -> None:
    async with tx.connection.cursor().copy(copy.statement(table)) as stream:
        await stream.write(copy.data)


async def _settle(
    tx: Transaction, place: _Place, chunk: Chunk, keys: Sequence[bytes], staged: bool
) -> tuple[ChunkStored, int]:
    """Count what came in; returns the outcome and how many jobs of others were linked."""
    rows = len(keys)
    due = due_of_chunk(chunk, tx.now)
    tx.deltas.expires_at(chunk.expires_at)
    if not staged:
        tx.deltas.add_created(place.queue, (place.batch,), rows, due)
        return ChunkStored(rows, place.first, (), ()), 0
    await tx.send("add_staged")
    staged_rows = sorted(await tx.rows("find_staged", first=place.first))
    found = [_Existing(seq, batch) for _, seq, batch, _ in staged_rows]
    if len(found) < rows:
        raise forgotten_meanwhile()
    if all(job.seq == place.first + row for row, job in enumerate(found)):
        tx.deltas.add_created(place.queue, (place.batch,), rows, due)
        return ChunkStored(rows, place.first, (), ()), 0
    # A row made its job if that job has the number that was meant for the row.
    mine = [row for row, job in enumerate(found) if job.seq == place.first + row]
    duplicates = [row for row, job in enumerate(found) if job.seq != place.first + row]
    due_of_mine = None if due is None else [due[row] for row in mine]
    tx.deltas.add_created(place.queue, (place.batch,), len(mine), due_of_mine, len(duplicates))
    others = {found[row].seq for row in duplicates if found[row].batch != place.batch}
    linked = await _link(tx, place.batch, sorted(others))
    same = {row for row, _, _, is_same in staged_rows if is_same}
    other = {found[row].seq for row in duplicates if row not in same}
    changed, replaced = await _compare(tx, place, chunk, other, found, duplicates)
    seqs = [job.seq for job in found]
    return ChunkStored(rows, None, seqs, duplicates, changed, replaced), linked


async def _compare(
    tx: Transaction,
    place: _Place,
    chunk: Chunk,
    other: set[int],
    found: Sequence[_Existing],
    duplicates: Sequence[int],
) -> tuple[list[int], list[int]]:
    """Return which rows have another payload than their job, and which of them it got.

    `other` are jobs that have not the bytes of one of their rows.
    """
    if not other:
        return [], []
    if chunk.replaceable:
        await tx.rows("lock_payloads", seqs=sorted(other))
    rows = [
        (row, found[row].seq, chunk.payloads[row]) for row in duplicates if found[row].seq in other
    ]
    lengths = {(seq, len(payload)) for _, seq, payload in rows}
    kept = await tx.rows(
        "read_kept", seqs=[seq for seq, _ in lengths], sizes=[size for _, size in lengths]
    )
    jobs = map(KeptPayload._make, kept)
    changed, replaced, payloads = await asyncio.to_thread(
        compare, rows, jobs, place.queue, chunk.replaceable
    )
    if payloads:
        values = {"seqs": list(payloads), "payloads": list(payloads.values())}
        await tx.send("replace_payloads", **values, schema_id=chunk.schema_id)
        await tx.send("bring_schemas", batch=place.batch, seqs=list(payloads))
    return changed, replaced


async def _link(tx: Transaction, batch: int, jobs: Sequence[int]) -> int:
    """Make jobs that others made part of this batch as well; returns how many were not yet."""
    if not jobs:
        return 0
    added = await tx.rows("add_links", batch=batch, jobs=list(jobs))
    if not added:
        return 0
    new = sorted(seq for (seq,) in added)
    counts: Counter[tuple[int, bool, bool]] = Counter()
    locked = await tx.rows("lock_linked", jobs=new)
    if len(locked) < len(new):
        raise forgotten_meanwhile()
    for _, status, due_at, is_expired, error in locked:
        counts[status, due_at is not None, is_expired] += 1
        if status == Status.DEADLETTER:
            tx.deltas.count_error((batch,), (error or b"").decode())
    await tx.send("mark_linked", jobs=new)
    for (status, waits, is_expired), count in counts.items():
        tx.deltas.add(None, (batch,), status, count, waiting=waits, expired=is_expired)
    return len(new)


async def _replayed(
    tx: Transaction, place: _Place, chunk: Chunk, keys: Sequence[bytes], upload: dict[str, Any]
) -> ChunkStored:
    ((rows, *places),) = await tx.rows("read_chunk", **upload)
    found = [job for job in await _existing(tx, place, keys) if job is not None]
    # Each row of a chunk that came before is a job of the batch.
    others = {job.seq for job in found if job.batch != place.batch}
    if others:
        linked = await tx.rows("find_links", batch=place.batch, jobs=sorted(others))
        others -= {seq for (seq,) in linked}
    if not len(found) == len(keys) == rows or others:
        raise other_rows(chunk)
    return ChunkStored(rows, None, [job.seq for job in found], *places)


async def _existing(
    tx: Transaction, place: _Place, keys: Sequence[bytes]
) -> list[_Existing | None]:
    """Return each row's job, where there is one."""
    found: list[_Existing | None] = [None] * len(keys)
    organizations = [place.organization] * len(keys)
    for row, seq, batch in await tx.rows(
        "find_jobs_of_keys", organizations=organizations, keys=list(keys)
    ):
        found[row] = _Existing(seq, batch)
    return found
