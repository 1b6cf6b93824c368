"""What an operator looks at: reads whose cost does not grow with the jobs of the store."""

from __future__ import annotations

from collections.abc import Sequence

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.batches.records import BatchPage
from spooled_pipelines.server.core.jobs.records import (
    Counts,
    JobPage,
    ListedQueue,
    ListedWorker,
    QueuePage,
    QueueRecord,
    WorkerRecord,
)
from spooled_pipelines.server.store.limits import LISTED_MAX, SEARCHED_MAX
from spooled_pipelines.server.store.postgres.connections.database import Snapshot
from spooled_pipelines.server.store.postgres.reads import reading
from spooled_pipelines.server.store.postgres.reads.records import job_record, stored_key
from spooled_pipelines.server.store.requests import BatchListing, JobListing, JobSearch, following
from spooled_pipelines.server.store.rows import queue_control, waiting_errors

_WIDTH = len(Counts._fields)


async def queues(
    snapshot: Snapshot,
    organization: str,
    names: Sequence[str] | None,
    after: str,
    limit: int,
) -> QueuePage:
    """Return queues by name."""
    rows = await snapshot.rows(
        "list_queues_of_organization",
        organization=organization,
        queues=None if names is None else list(names),
        after=after,
        limit=limit + 1,
    )
    listed = []
    for name, number, *row in rows[:limit]:
        ((oldest,),) = await snapshot.rows("read_oldest_claimable", queue=number)
        record = QueueRecord(Counts(*row[:_WIDTH]), oldest)
        control = queue_control(row[_WIDTH], row[_WIDTH + 1 :], snapshot.now)
        waiting = []
        if record.counts.waiting:
            waiting = await snapshot.rows("list_waiting_of_queue", queue=number)
        listed.append(ListedQueue(name, record, control, waiting_errors(waiting)))
    return QueuePage(listed, listed[-1].queue_name if len(rows) > limit else None)


async def batches(snapshot: Snapshot, organization: str, listing: BatchListing) -> BatchPage:
    """Return batches, newest first, as of one moment."""
    queues, text, limit = listing.queues, listing.text, listing.limit
    async with snapshot.connection.transaction():
        await snapshot.connection.execute(
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
        )
        rows = await snapshot.rows(
            "list_batches_of_organization" if queues is None else "list_batches_of_queues",
            organization=organization,
            **({} if queues is None else {"queues": list(queues)}),
            text=text.encode(),
            batch_id=_without_nul(text),
            since=listing.since,
            until=listing.until,
            before=listing.before,
            limit=limit + 1,
        )
        batch_ids = [batch_id for _, batch_id in rows[:limit]]
        records = await reading.batches(snapshot, organization, batch_ids)
    return BatchPage(records, rows[limit - 1][0] if len(rows) > limit else None)


async def workers(
    snapshot: Snapshot, organization: str, queues: Sequence[str] | None, limit: int
) -> list[ListedWorker]:
    """Return workers, those that were heard of last first."""
    rows = await snapshot.rows(
        "list_workers",
        organization=organization,
        queues=None if queues is None else list(queues),
        limit=limit,
    )
    listed = []
    for worker_id, queue, host, kind, concurrency, version, metadata, status, *numbers in rows:
        about = (host.decode(), kind.decode(), concurrency, version.decode(), metadata.decode())
        listed.append(
            ListedWorker(WorkerRecord(worker_id, queue, *about), status.decode(), *numbers)
        )
    return listed


async def search(snapshot: Snapshot, organization: str, query: JobSearch) -> JobPage:
    """Return jobs of a batch by status and text."""
    text, limit = query.text, query.limit
    rows = await snapshot.rows(
        "search_jobs",
        batch=await reading.batch_number(snapshot, organization, query.batch_id),
        after=query.after,
        searched=SEARCHED_MAX,
        statuses=list(query.statuses) or None,
        text=text.encode(),
        worker=_without_nul(text),
        key=stored_key(text),
        number=ids.job_number(snapshot.prefix, text),
        limit=limit + 1,
    )
    places, last = rows[0][:2]
    jobs = [job_record(snapshot.prefix, row) for _, _, *row in rows if row[0] is not None]
    if len(jobs) > limit:
        return JobPage(jobs[:limit], jobs[limit - 1].seq)
    return JobPage(jobs, last if places == SEARCHED_MAX else None)


async def jobs(snapshot: Snapshot, organization: str, query: JobListing) -> JobPage:
    """Return jobs by queue, status, text and time, newest first."""
    text, limit = query.text, query.limit
    number = ids.job_number(snapshot.prefix, text)
    searched = LISTED_MAX if number is None else 1
    rows = await snapshot.rows(
        "list_jobs",
        organization=organization,
        before=query.before if number is None else min(query.before, number + 1),
        searched=searched,
        queues=None if query.queues is None else list(query.queues),
        statuses=list(query.statuses) or None,
        waiting=query.waiting,
        since=query.since,
        until=query.until,
        text=text.encode(),
        worker=_without_nul(text),
        key=stored_key(text),
        number=number,
        limit=limit + 1,
    )
    places, last, made_at = rows[0][:3]
    found = [
        job_record(snapshot.prefix, row)._replace(due_at=due_at)
        for _, _, _, *row, due_at in rows
        if row[0] is not None
    ]
    if len(found) > limit:
        return JobPage(found[:limit], found[limit - 1].seq)
    return JobPage(found, following(query, number, (last, made_at) if places == searched else None))


def _without_nul(text: str) -> str | None:
    # The database's text cannot hold U+0000, and neither the id of a worker nor of a batch does.
    return None if "\0" in text else text
