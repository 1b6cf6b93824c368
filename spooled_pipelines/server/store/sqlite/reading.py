"""Reads: of what is committed, or of one's own transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from spooled_pipelines.server.core import ids, queue_limits
from spooled_pipelines.server.core.errors import not_found
from spooled_pipelines.server.core.queue_limits import QueueControl, QueueLimits
from spooled_pipelines.server.core.records import (
    CHUNK_RANGES_MAX,
    PAGE_BYTES,
    AttemptRecord,
    BatchRecord,
    ChunkRange,
    CounterMismatch,
    Counts,
    JobPage,
    JobRecord,
    OpenBatches,
    PartRecord,
    QueueRecord,
)
from spooled_pipelines.server.store.limits import ANSWER_BYTES
from spooled_pipelines.server.store.sqlite.jobs import job_record, stored_key
from spooled_pipelines.server.store.sqlite.queries import SQL


def job(connection: sqlite3.Connection, prefix: str, organization: str, job_id: str) -> JobRecord:
    """One job."""
    seq = ids.job_number(prefix, job_id)
    row = connection.execute(SQL["job_of_organization"], (seq, organization)).fetchone()
    if row is None:
        raise not_found(f"there is no job {job_id!r}")
    return job_record(prefix, row)


def attempts(
    connection: sqlite3.Connection, prefix: str, organization: str, job_id: str
) -> list[AttemptRecord]:
    """Every attempt at a job, oldest first."""
    seq = job(connection, prefix, organization, job_id).seq
    rows = connection.execute(SQL["attempts"], (seq,)).fetchall()
    return [AttemptRecord._make(row) for row in rows]


def find_keys(
    connection: sqlite3.Connection, organization: str, queue_name: str, keys: Sequence[str]
) -> list[int]:
    """The places of keys that jobs of this queue have."""
    has_key = SQL["has_key"]
    return [
        place
        for place, key in enumerate(keys)
        if connection.execute(has_key, (organization, queue_name, stored_key(key))).fetchone()
    ]


def queue(connection: sqlite3.Connection, organization: str, queue_name: str) -> QueueRecord:
    """A queue's counters."""
    row = connection.execute(SQL["queue_counts"], (organization, queue_name)).fetchone()
    if row is None:
        return QueueRecord(Counts(*[0] * len(Counts._fields)), None)
    number, *counts = row
    oldest = connection.execute(SQL["oldest_claimable"], (number,)).fetchone()[0]
    return QueueRecord(Counts(*counts), oldest)


def queue_names(connection: sqlite3.Connection, limit: int) -> list[tuple[str, str]]:
    """Organization and name of the oldest queues."""
    return connection.execute(SQL["list_queues"], (limit,)).fetchall()


def control(connection: sqlite3.Connection, organization: str, queue_name: str) -> QueueControl:
    """What holds a queue back."""
    row = connection.execute(SQL["queue_control"], (organization, queue_name)).fetchone()
    if row is None:
        return QueueControl(QueueLimits(), paused=False)
    throttle = queue_limits.stored(row[2:])
    limits = QueueLimits() if throttle is None else throttle.limits
    return QueueControl(limits, bool(row[0]))


def open_batches(connection: sqlite3.Connection, limit: int) -> list[OpenBatches]:
    """Batches that are not settled, by queue."""
    rows = connection.execute(SQL["open_batches"], (limit,)).fetchall()
    return [OpenBatches._make(row) for row in rows]


def batch(
    connection: sqlite3.Connection, organization: str, batch_id: str, now: int
) -> BatchRecord:
    """A batch's counters."""
    row = connection.execute(SQL["batch_record"], (organization, batch_id)).fetchone()
    if row is None:
        raise not_found(f"there is no batch {batch_id!r}")
    counts = Counts(*row[4:12])
    throttle = queue_limits.stored(row[20:])
    errors: list[tuple[str, int]] = []
    if counts.deadletter:
        errors = connection.execute(SQL["top_errors"], (row[14],)).fetchall()
    return BatchRecord(
        batch_id=row[0],
        queue_name=row[1],
        name=row[2],
        sealed=bool(row[3]),
        counts=counts,
        created_at=row[12],
        changed_at=row[13],
        top_errors=tuple(errors),
        worker_seen_at=row[15],
        lease_expired_at=row[16],
        generation=row[17],
        queue_paused=bool(row[18]),
        braked=None if throttle is None else throttle.braked(row[19], now),
    )


def batches(
    connection: sqlite3.Connection, organization: str, batch_ids: Sequence[str], now: int
) -> list[BatchRecord]:
    """Batches as of one moment, in the order asked for."""
    # A transaction, or a part of the one that this is read in.
    connection.execute("SAVEPOINT moment")
    try:
        return [batch(connection, organization, batch_id, now) for batch_id in batch_ids]
    finally:
        connection.execute("RELEASE moment")


def stored_chunks(
    connection: sqlite3.Connection, organization: str, batch_id: str, upload_id: str
) -> list[ChunkRange]:
    """Which chunks of an upload are stored."""
    number = _number(connection, organization, batch_id)
    rows = connection.execute(SQL["stored_chunks"], (number, upload_id, CHUNK_RANGES_MAX))
    return [ChunkRange._make(row) for row in rows]


def batch_parts(
    connection: sqlite3.Connection, organization: str, batch_id: str, after: str, limit: int
) -> list[PartRecord]:
    """Parts with an id above `after`, in order."""
    return parts(connection, _number(connection, organization, batch_id), after, limit)


def parts(
    connection: sqlite3.Connection, number: int, after: str = "", limit: int = -1
) -> list[PartRecord]:
    """The same by the batch's number."""
    rows = connection.execute(SQL["parts"], (number, after, limit))
    return [PartRecord(part_id, bool(finished), count) for part_id, finished, count in rows]


def _number(connection: sqlite3.Connection, organization: str, batch_id: str) -> int:
    row = connection.execute(SQL["batch_number"], (organization, batch_id)).fetchone()
    if row is None:
        raise not_found(f"there is no batch {batch_id!r}")
    return int(row[0])


def batch_jobs(
    connection: sqlite3.Connection,
    prefix: str,
    organization: str,
    batch_id: str,
    statuses: Sequence[int],
    after: int,
    limit: int,
    omit_payload: bool,
) -> JobPage:
    """Jobs of a batch with a number above `after`, oldest first."""
    number = _number(connection, organization, batch_id)
    # A bit for each status that is wanted.
    wanted = sum(1 << status for status in set(statuses)) if statuses else -1
    values = (number, after, limit + 1, omit_payload, wanted)
    return _page(prefix, limit, PAGE_BYTES, connection.execute(SQL["jobs_of_batch"], values))


def dead_letters(
    connection: sqlite3.Connection,
    prefix: str,
    organization: str,
    queue_name: str,
    after: int,
    limit: int,
) -> JobPage:
    """Dead letters of a queue with a number above `after`, oldest first."""
    values = (organization, queue_name, after, limit + 1)
    return _page(prefix, limit, ANSWER_BYTES, connection.execute(SQL["dead_letters"], values))


def _page(prefix: str, limit: int, budget: int, rows: Iterable[tuple[Any, ...]]) -> JobPage:
    """The first of these rows, at least one where there are any, that fit into one answer."""
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
    """Every counter that differs from a count over the jobs."""
    width = len(Counts._fields)
    mismatches = []
    for kind, query in (("queue", "queue_recount"), ("batch", "batch_recount")):
        for _, name, *numbers in connection.execute(SQL[query]):
            kept, counted = Counts(*numbers[:width]), Counts(*numbers[width:])
            if kept != counted:
                mismatches.append(CounterMismatch(f"{kind} {name}", counted, kept))
    return mismatches
