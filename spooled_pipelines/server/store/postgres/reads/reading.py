"""Reads: of what is committed, or within a transaction of what it did."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
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
from spooled_pipelines.server.core.jobs.columns import JobColumns, columns_of_jobs
from spooled_pipelines.server.core.jobs.payloads import KeptPayload, compare
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
from spooled_pipelines.server.core.runtime.presence import OFFLINE_MS
from spooled_pipelines.server.store.limits import AHEAD_MAX, ANSWER_BYTES, ATTEMPTS_MAX
from spooled_pipelines.server.store.postgres.connections.database import Snapshot, send
from spooled_pipelines.server.store.postgres.reads.records import job_record, stored_key
from spooled_pipelines.server.store.requests import BatchJobs, DeadLetters, KeyQuery
from spooled_pipelines.server.store.rows import batch_record, throttled_queues, with_ahead

_WIDTH = len(Counts._fields)


async def job(snapshot: Snapshot, organization: str, job_id: str) -> JobRecord:
    seq = ids.job_number(snapshot.prefix, job_id)
    rows = await snapshot.rows("read_job", seq=seq, organization=organization)
    if not rows:
        raise not_found(f"there is no job {job_id!r}")
    return job_record(snapshot.prefix, rows[0])


async def attempts(snapshot: Snapshot, organization: str, job_id: str) -> list[AttemptRecord]:
    seq = (await job(snapshot, organization, job_id)).seq
    return [
        AttemptRecord._make((*made, None if error is None else error.decode()))
        for *made, error in await snapshot.rows("list_attempts", job=seq, limit=ATTEMPTS_MAX)
    ]


async def keys_elsewhere(
    snapshot: Snapshot, organization: str, queues: Collection[str], keys: Sequence[str]
) -> list[int]:
    rows = await snapshot.rows(
        "find_keys_elsewhere",
        organization=organization,
        queues=list(queues),
        keys=[stored_key(key) for key in keys],
    )
    return [place for (place,) in rows]


async def find_keys(snapshot: Snapshot, organization: str, query: KeyQuery) -> KeysFound:
    rows = await snapshot.rows(
        "find_keys_of_queue",
        organization=organization,
        name=query.queue_name,
        keys=[stored_key(key) for key in query.keys],
        payloads=list(query.payloads),
    )
    found = [place for place, *_ in rows]
    other = [(place, seq, query.payloads[place]) for place, seq, same in rows if same is False]
    if not query.payloads or not other:
        return KeysFound(found, [])
    lengths = {(seq, len(payload)) for _, seq, payload in other}
    kept = await snapshot.rows(
        "read_kept", seqs=[seq for seq, _ in lengths], sizes=[size for _, size in lengths]
    )
    jobs = list(map(KeptPayload._make, kept))
    # They are all of this queue.
    compared = await asyncio.to_thread(compare, other, jobs, jobs[0].queue, ())
    return KeysFound(found, compared.changed)


async def queue(snapshot: Snapshot, organization: str, queue_name: str) -> QueueRecord:
    rows = await snapshot.rows("read_queue", organization=organization, name=queue_name)
    if not rows:
        return QueueRecord(Counts(*[0] * _WIDTH), None)
    number, *counts = rows[0]
    ((oldest,),) = await snapshot.rows("read_oldest_claimable", queue=number)
    return QueueRecord(Counts(*counts), oldest)


async def depths(snapshot: Snapshot, limit: int) -> Depths:
    """Return the oldest queues, and those with batches that are not noted as settled."""
    seen = snapshot.now - OFFLINE_MS
    found = await snapshot.rows("list_queues", limit=limit, seen=seen)
    queues = [
        QueueDepth(owner, name, await queue(snapshot, owner, name), paused, oldest, workers)
        for owner, name, paused, oldest, workers in found
    ]
    open_batches = await snapshot.rows("list_open_batches", limit=limit)
    slowed = await snapshot.rows("list_throttled", limit=limit)
    open_now = [OpenBatches._make(row) for row in open_batches]
    return Depths(queues, open_now, throttled_queues(slowed, snapshot.now))


async def sizes(snapshot: Snapshot) -> list[StoreSize]:
    """Return how large the tables are that jobs come and go through."""
    return [StoreSize._make(row) for row in await snapshot.rows("list_sizes")]


async def batches(
    snapshot: Snapshot, organization: str, batch_ids: Sequence[str]
) -> list[BatchRecord]:
    """Return batches as of one moment, in the order asked for."""
    rows = await snapshot.rows("read_batches", organization=organization, batch_ids=list(batch_ids))
    found = {row[4]: row for row in rows}
    records = []
    for batch_id in batch_ids:
        row = found.get(batch_id)
        if row is None:
            raise not_found(f"there is no batch {batch_id!r}")
        errors, counts, waiting, due, *columns = row
        top = zip(errors or (), counts or (), strict=True)
        late = zip(waiting or (), due or (), strict=True)
        records.append(batch_record(columns, top, late, snapshot.now))
    queues = {record.queue_name for record in records if record.may_be_behind}
    heads = {
        queue: await snapshot.rows(
            "list_ahead", organization=organization, name=queue, limit=AHEAD_MAX
        )
        for queue in sorted(queues)
    }
    return [
        with_ahead(record, heads[record.queue_name]) if record.may_be_behind else record
        for record in records
    ]


async def stored_chunks(
    snapshot: Snapshot, organization: str, batch_id: str, upload_id: str
) -> list[ChunkRange]:
    number = await batch_number(snapshot, organization, batch_id)
    rows = await snapshot.rows(
        "list_chunks", batch=number, upload_id=upload_id.encode(), limit=CHUNK_RANGES_MAX
    )
    return [ChunkRange._make(row) for row in rows]


async def batch_parts(
    snapshot: Snapshot, organization: str, batch_id: str, after: str, limit: int
) -> list[PartRecord]:
    number = await batch_number(snapshot, organization, batch_id)
    return await parts(snapshot, number, after, limit)


async def parts(
    snapshot: Snapshot, number: int, after: str = "", limit: int | None = None
) -> list[PartRecord]:
    """Return the same by the batch's number."""
    found = await snapshot.rows("list_parts", batch=number, after=after.encode(), limit=limit)
    return [PartRecord(part_id.decode(), finished, rows) for part_id, finished, rows in found]


async def batch_number(snapshot: Snapshot, organization: str, batch_id: str) -> int:
    found = await snapshot.rows("find_batch", organization=organization, batch_id=batch_id)
    if not found:
        raise not_found(f"there is no batch {batch_id!r}")
    return int(found[0][0])


async def jobs(snapshot: Snapshot, organization: str, query: BatchJobs | DeadLetters) -> JobPage:
    """Return a page of jobs of a batch, or of dead letters of a queue, oldest first."""
    page = {"after": query.after, "limit": query.limit}
    if isinstance(query, DeadLetters):
        queue = {"organization": organization, "name": query.queue_name}
        rows = await snapshot.rows("list_dead_letters", **queue, **page, budget=ANSWER_BYTES)
        return _page(snapshot.prefix, rows)
    rows = await snapshot.rows(
        "list_jobs_of_batch",
        batch=await batch_number(snapshot, organization, query.batch_id),
        statuses=list(query.statuses) or None,
        omit_payload=query.omit_payload,
        budget=PAGE_BYTES,
        **page,
    )
    return _page(snapshot.prefix, rows)


async def job_columns(
    snapshot: Snapshot, organization: str, query: BatchJobs, queues: Collection[str] | None
) -> JobColumns:
    page = await jobs(snapshot, organization, query)
    visible = [job for job in page.jobs if queues is None or job.queue_name in queues]
    return columns_of_jobs(visible, page.after)


def _page(prefix: str, rows: Sequence[Sequence[Any]]) -> JobPage:
    """Return the page of rows that begin with how many there would be if all of them fitted."""
    jobs = [job_record(prefix, row) for _, *row in rows]
    more = bool(rows) and rows[0][0] > len(rows)
    return JobPage(jobs, jobs[-1].seq if more else None)


async def recount(snapshot: Snapshot) -> list[CounterMismatch]:
    mismatches = []
    async with snapshot.connection.transaction():
        await send(snapshot.connection, "allow_scans")
        for kind, query in (("queue", "recount_queues"), ("batch", "recount_batches")):
            for name, *numbers in await snapshot.rows(query):
                kept, counted = Counts(*numbers[:_WIDTH]), Counts(*numbers[_WIDTH:])
                if kept != counted:
                    mismatches.append(CounterMismatch(f"{kind} {name}", counted, kept))
    return mismatches
