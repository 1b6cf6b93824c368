"""Reads: of what is committed, or within a transaction of what it did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spooled_pipelines.server.core import ids, queue_limits
from spooled_pipelines.server.core.errors import not_found
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
from spooled_pipelines.server.store.postgres.database import Connection, fetch, send
from spooled_pipelines.server.store.postgres.records import job_record, stored_key

_WIDTH = len(Counts._fields)


async def job(connection: Connection, prefix: str, organization: str, job_id: str) -> JobRecord:
    """One job."""
    seq = ids.job_number(prefix, job_id)
    rows = await fetch(connection, "job_of_organization", seq=seq, organization=organization)
    if not rows:
        raise not_found(f"there is no job {job_id!r}")
    return job_record(prefix, rows[0])


async def attempts(
    connection: Connection, prefix: str, organization: str, job_id: str
) -> list[AttemptRecord]:
    """Every attempt at a job, oldest first."""
    seq = (await job(connection, prefix, organization, job_id)).seq
    return [
        AttemptRecord._make((*made, None if error is None else error.decode()))
        for *made, error in await fetch(connection, "attempts", job=seq)
    ]


async def find_keys(
    connection: Connection, organization: str, queue_name: str, keys: Sequence[str]
) -> list[int]:
    """The places of keys that jobs of this queue have."""
    coded = [stored_key(key) for key in keys]
    rows = await fetch(
        connection, "places_of_keys", organization=organization, name=queue_name, keys=coded
    )
    return [place for (place,) in rows]


async def queue(connection: Connection, organization: str, queue_name: str) -> QueueRecord:
    """A queue's counters."""
    rows = await fetch(connection, "queue_counts", organization=organization, name=queue_name)
    if not rows:
        return QueueRecord(Counts(*[0] * _WIDTH), None)
    number, *counts = rows[0]
    ((oldest,),) = await fetch(connection, "oldest_claimable", queue=number)
    return QueueRecord(Counts(*counts), oldest)


async def queue_names(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """Organization and name of the oldest queues."""
    rows = await fetch(connection, "list_queues", limit=limit)
    return [(organization, name) for organization, name in rows]


async def open_batches(connection: Connection, limit: int) -> list[OpenBatches]:
    """Batches that are not noted as settled, by queue."""
    rows = await fetch(connection, "open_batches", limit=limit)
    return [OpenBatches._make(row) for row in rows]


async def batches(
    connection: Connection, organization: str, batch_ids: Sequence[str], now: int
) -> list[BatchRecord]:
    """Batches as of one moment, in the order asked for."""
    rows = await fetch(
        connection, "batch_records", organization=organization, batch_ids=list(batch_ids)
    )
    found = {row[0]: row for row in rows}
    records = []
    for batch_id in batch_ids:
        row = found.get(batch_id)
        if row is None:
            raise not_found(f"there is no batch {batch_id!r}")
        throttle = queue_limits.stored(row[21:])
        records.append(
            BatchRecord(
                batch_id=row[0],
                queue_name=row[1],
                name=row[2].decode(),
                sealed=row[3],
                counts=Counts(*row[4:12]),
                created_at=row[12],
                changed_at=row[13],
                worker_seen_at=row[14],
                lease_expired_at=row[15],
                generation=row[18],
                queue_paused=row[19],
                braked=None if throttle is None else throttle.braked(row[20], now),
                top_errors=tuple(
                    (error.decode(), count)
                    for error, count in zip(row[16] or (), row[17] or (), strict=True)
                ),
            )
        )
    return records


async def stored_chunks(
    connection: Connection, organization: str, batch_id: str, upload_id: str
) -> list[ChunkRange]:
    """Which chunks of an upload are stored."""
    number = await _number(connection, organization, batch_id)
    rows = await fetch(
        connection,
        "stored_chunks",
        batch=number,
        upload_id=upload_id.encode(),
        limit=CHUNK_RANGES_MAX,
    )
    return [ChunkRange._make(row) for row in rows]


async def batch_parts(
    connection: Connection, organization: str, batch_id: str, after: str, limit: int
) -> list[PartRecord]:
    """Parts with an id above `after`, in order."""
    number = await _number(connection, organization, batch_id)
    return await parts(connection, number, after, limit)


async def parts(
    connection: Connection, number: int, after: str = "", limit: int | None = None
) -> list[PartRecord]:
    """The same by the batch's number."""
    found = await fetch(connection, "parts", batch=number, after=after.encode(), limit=limit)
    return [PartRecord(part_id.decode(), finished, rows) for part_id, finished, rows in found]


async def _number(connection: Connection, organization: str, batch_id: str) -> int:
    found = await fetch(connection, "find_batch", organization=organization, batch_id=batch_id)
    if not found:
        raise not_found(f"there is no batch {batch_id!r}")
    return int(found[0][0])


async def batch_jobs(
    connection: Connection,
    prefix: str,
    organization: str,
    batch_id: str,
    statuses: Sequence[int],
    after: int,
    limit: int,
    omit_payload: bool,
) -> JobPage:
    """Jobs of a batch with a number above `after`, oldest first."""
    number = await _number(connection, organization, batch_id)
    rows = await fetch(
        connection,
        "jobs_of_batch",
        batch=number,
        statuses=list(statuses) or None,
        after=after,
        limit=limit,
        omit_payload=omit_payload,
        budget=PAGE_BYTES,
    )
    return _page(prefix, rows)


async def dead_letters(
    connection: Connection, prefix: str, organization: str, queue_name: str, after: int, limit: int
) -> JobPage:
    """Dead letters of a queue with a number above `after`, oldest first."""
    rows = await fetch(
        connection,
        "dead_letters",
        organization=organization,
        name=queue_name,
        after=after,
        limit=limit,
        budget=ANSWER_BYTES,
    )
    return _page(prefix, rows)


def _page(prefix: str, rows: Sequence[Sequence[Any]]) -> JobPage:
    """Rows that begin with how many there would be, if all of them fitted."""
    jobs = [job_record(prefix, row) for _, *row in rows]
    more = bool(rows) and rows[0][0] > len(rows)
    return JobPage(jobs, jobs[-1].seq if more else None)


async def recount(connection: Connection) -> list[CounterMismatch]:
    """Every counter that differs from a count over the jobs."""
    mismatches = []
    async with connection.transaction():
        await send(connection, "recount_settings")
        for kind in ("queue", "batch"):
            for name, *numbers in await fetch(connection, f"{kind}_recount"):
                kept, counted = Counts(*numbers[:_WIDTH]), Counts(*numbers[_WIDTH:])
                if kept != counted:
                    mismatches.append(CounterMismatch(f"{kind} {name}", counted, kept))
    return mismatches
