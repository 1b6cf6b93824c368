"""Reads: of what is committed, or of one's own transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.batches.records import (
    CHUNK_RANGES_MAX,
    BatchRecord,
    ChunkRange,
    KeysFound,
    PartRecord,
)
from spooled_pipelines.server.core.errors import not_found
from spooled_pipelines.server.core.jobs.columns import JobColumns, columns_of_rows
from spooled_pipelines.server.core.jobs.payloads import KeptPayload, differs
from spooled_pipelines.server.core.jobs.records import (
    PAGE_BYTES,
    AttemptRecord,
    CounterMismatch,
    Counts,
    Depths,
    JobPage,
    JobRecord,
    OpenBatches,
    QueueDepth,
    QueueRecord,
    StoreSize,
)
from spooled_pipelines.server.core.limits.queue_limits import QueueControl
from spooled_pipelines.server.core.runtime.presence import OFFLINE_MS
from spooled_pipelines.server.store.limits import AHEAD_MAX, ANSWER_BYTES, ATTEMPTS_MAX
from spooled_pipelines.server.store.requests import BatchJobs, DeadLetters, KeyQuery
from spooled_pipelines.server.store.rows import (
    batch_record,
    queue_control,
    text,
    throttled_queues,
    with_ahead,
)
from spooled_pipelines.server.store.sqlite.queries import NAMED, SQL
from spooled_pipelines.server.store.sqlite.reads.records import job_record, stored_key
from spooled_pipelines.server.store.sqlite.transactions import Snapshot


def job(snapshot: Snapshot, organization: str, job_id: str) -> JobRecord:
    seq = ids.job_number(snapshot.prefix, job_id)
    row = snapshot.connection.execute(SQL["read_job"], (seq, organization)).fetchone()
    if row is None:
        raise not_found(f"there is no job {job_id!r}")
    return job_record(snapshot.prefix, row)


def attempts(snapshot: Snapshot, organization: str, job_id: str) -> list[AttemptRecord]:
    seq = job(snapshot, organization, job_id).seq
    rows = snapshot.connection.execute(
        NAMED["list_attempts"], {"job": seq, "limit": ATTEMPTS_MAX}
    ).fetchall()
    return [AttemptRecord._make(row) for row in rows]


def keys_elsewhere(
    snapshot: Snapshot, organization: str, queues: Collection[str], keys: Sequence[str]
) -> list[int]:
    find = snapshot.connection.execute
    rows = (
        find(SQL["find_queue_of_key"], (stored_key(key), organization)).fetchone() for key in keys
    )
    return [place for place, row in enumerate(rows) if row is not None and row[0] not in queues]


def find_keys(snapshot: Snapshot, organization: str, query: KeyQuery) -> KeysFound:
    find = snapshot.connection.execute
    queue = {"organization": organization, "name": query.queue_name}
    found = KeysFound([], [])
    for place, key in enumerate(query.keys):
        payload = query.payloads[place] if query.payloads else None
        values = {**queue, "key": stored_key(key), "payload": payload}
        row = find(NAMED["find_key_of_queue"], values).fetchone()
        if row is None:
            continue
        found.found.append(place)
        if (
            payload is not None
            and not row[1]
            and differs(payload, kept(snapshot, row[0], len(payload)))
        ):
            found.changed.append(place)
    return found


def kept(snapshot: Snapshot, seq: int, size: int) -> KeptPayload:
    """Return a job's payload where it is so long, or the hash of it."""
    row = snapshot.connection.execute(SQL["read_kept"], (size, seq)).fetchone()
    return KeptPayload._make(row)


def queue(snapshot: Snapshot, organization: str, queue_name: str) -> QueueRecord:
    row = snapshot.connection.execute(SQL["read_queue"], (organization, queue_name)).fetchone()
    if row is None:
        return QueueRecord(Counts(*[0] * len(Counts._fields)), None)
    number, *counts = row
    return QueueRecord(Counts(*counts), oldest_claimable(snapshot, number))


def oldest_claimable(snapshot: Snapshot, queue: int) -> int | None:
    """Return when the oldest claimable job of a queue was made."""
    found = snapshot.connection.execute(NAMED["read_oldest_claimable"], {"queue": queue})
    oldest: int | None = found.fetchone()[0]
    return oldest


def depths(snapshot: Snapshot, limit: int) -> Depths:
    values = {"limit": limit, "seen": snapshot.now - OFFLINE_MS}
    found = snapshot.connection.execute(NAMED["list_queues"], values).fetchall()
    queues = [
        QueueDepth(owner, name, queue(snapshot, owner, name), bool(paused), oldest, workers)
        for owner, name, paused, oldest, workers in found
    ]
    open_batches = snapshot.connection.execute(SQL["list_open_batches"], (limit,)).fetchall()
    slowed = snapshot.connection.execute(SQL["list_throttled"], (limit,))
    open_now = [OpenBatches._make(row) for row in open_batches]
    return Depths(queues, open_now, throttled_queues(slowed, snapshot.now))


def control(snapshot: Snapshot, organization: str, queue_name: str) -> QueueControl:
    found = snapshot.connection.execute(SQL["read_control"], (organization, queue_name))
    paused, *limits = found.fetchone() or (False, None)
    return queue_control(paused, limits, snapshot.now)


def batch(snapshot: Snapshot, organization: str, batch_id: str) -> BatchRecord:
    """Return a batch's counters."""
    row = snapshot.connection.execute(SQL["read_batches"], (organization, batch_id)).fetchone()
    if row is None:
        raise not_found(f"there is no batch {batch_id!r}")
    number, *columns = row
    errors = snapshot.connection.execute(SQL["list_top_errors"], (number,))
    waiting = snapshot.connection.execute(SQL["list_waiting_of_batch"], (number,))
    record = batch_record(columns, errors, waiting, snapshot.now)
    if record.may_be_behind:
        values = {"organization": organization, "name": record.queue_name, "limit": AHEAD_MAX}
        head = snapshot.connection.execute(NAMED["list_ahead"], values).fetchall()
        record = with_ahead(record, head)
    return record


def sizes(snapshot: Snapshot) -> list[StoreSize]:
    """Return how large the file is, and how much of it is free."""

    def pragma(name: str) -> int:
        return int(snapshot.connection.execute(f"PRAGMA {name}").fetchone()[0])

    page = pragma("page_size")
    parts = {"file": pragma("page_count"), "free": pragma("freelist_count")}
    return [StoreSize(part, pages * page) for part, pages in parts.items()]


def batches(snapshot: Snapshot, organization: str, batch_ids: Sequence[str]) -> list[BatchRecord]:
    """Return batches as of one moment, in the order asked for."""
    # A transaction, or a part of the one that this is read in.
    snapshot.connection.execute("SAVEPOINT moment")
    try:
        return [batch(snapshot, organization, batch_id) for batch_id in batch_ids]
    finally:
        snapshot.connection.execute("RELEASE moment")


def stored_chunks(
    snapshot: Snapshot, organization: str, batch_id: str, upload_id: str
) -> list[ChunkRange]:
    number = batch_number(snapshot, organization, batch_id)
    rows = snapshot.connection.execute(SQL["list_chunks"], (number, upload_id, CHUNK_RANGES_MAX))
    return [ChunkRange._make(row) for row in rows]


def batch_parts(
    snapshot: Snapshot, organization: str, batch_id: str, after: str, limit: int
) -> list[PartRecord]:
    return parts(snapshot, batch_number(snapshot, organization, batch_id), after, limit)


def parts(snapshot: Snapshot, number: int, after: str = "", limit: int = -1) -> list[PartRecord]:
    """Return the same by the batch's number."""
    rows = snapshot.connection.execute(SQL["list_parts"], (number, after, limit))
    return [PartRecord(part_id, bool(finished), count) for part_id, finished, count in rows]


def batch_number(snapshot: Snapshot, organization: str, batch_id: str) -> int:
    row = snapshot.connection.execute(SQL["find_batch_number"], (organization, batch_id)).fetchone()
    if row is None:
        raise not_found(f"there is no batch {batch_id!r}")
    return int(row[0])


def jobs(snapshot: Snapshot, organization: str, query: BatchJobs | DeadLetters) -> JobPage:
    """Return a page of jobs of a batch, or of dead letters of a queue, oldest first."""
    page = {"after": query.after, "limit": query.limit + 1}
    if isinstance(query, DeadLetters):
        queue = {"organization": organization, "name": query.queue_name}
        rows = snapshot.connection.execute(NAMED["list_dead_letters"], {**queue, **page})
        return _page(snapshot.prefix, query.limit, ANSWER_BYTES, rows)
    batch = {
        "batch": batch_number(snapshot, organization, query.batch_id),
        "omit_payload": query.omit_payload,
        "statuses": status_bits(query.statuses),
    }
    rows = snapshot.connection.execute(NAMED["list_jobs_of_batch"], {**batch, **page})
    return _page(snapshot.prefix, query.limit, PAGE_BYTES, rows)


def job_columns(
    snapshot: Snapshot, organization: str, query: BatchJobs, queues: Collection[str] | None
) -> JobColumns:
    asked = {
        "batch": batch_number(snapshot, organization, query.batch_id),
        "omit_payload": query.omit_payload,
        "statuses": status_bits(query.statuses),
        "queues": None if queues is None else json.dumps(sorted(queues)),
        "after": query.after,
        "limit": query.limit + 1,
    }
    rows: list[tuple[Any, ...]] = []
    size = 0
    for seq, status, at, error, schema_id, *structs in snapshot.connection.execute(
        NAMED["list_columns_of_batch"], asked
    ):
        size += sum(len(struct) for struct in structs if struct is not None)
        if rows and (len(rows) == query.limit or size > PAGE_BYTES):
            return columns_of_rows(rows, rows[-1][0])
        shown = None if error is None else text(error)
        rows.append((seq, status, at, shown, schema_id, *structs))
    return columns_of_rows(rows, None)


def status_bits(statuses: Sequence[int]) -> int:
    """Return a bit for each status that is wanted; all, where none is named."""
    return sum(1 << status for status in set(statuses)) if statuses else -1


def _page(prefix: str, limit: int, budget: int, rows: Iterable[tuple[Any, ...]]) -> JobPage:
    """Return the first of these rows, at least one where there are any, that fit an answer."""
    jobs: list[JobRecord] = []
    size = 0
    for row in rows:
        record = job_record(prefix, row)
        size += len(record.payload or b"") + len(record.result or b"")
        if jobs and (len(jobs) == limit or size > budget):
            return JobPage(jobs, jobs[-1].seq)
        jobs.append(record)
    return JobPage(jobs, None)


def recount(connection: sqlite3.Connection) -> list[CounterMismatch]:
    width = len(Counts._fields)
    mismatches = []
    for kind, query in (("queue", "recount_queues"), ("batch", "recount_batches")):
        for _, name, *numbers in connection.execute(SQL[query]):
            kept, counted = Counts(*numbers[:width]), Counts(*numbers[width:])
            if kept != counted:
                mismatches.append(CounterMismatch(f"{kind} {name}", counted, kept))
    return mismatches
