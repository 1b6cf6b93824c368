"""What an operator looks at: reads whose cost does not grow with the jobs of the store."""

from __future__ import annotations

import itertools
import json
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
from spooled_pipelines.server.store.requests import (
    NEWEST,
    BatchListing,
    JobListing,
    JobSearch,
    following,
)
from spooled_pipelines.server.store.rows import queue_control, waiting_errors
from spooled_pipelines.server.store.sqlite.queries import NAMED, SQL
from spooled_pipelines.server.store.sqlite.reads import reading
from spooled_pipelines.server.store.sqlite.reads.records import job_record, stored_key
from spooled_pipelines.server.store.sqlite.transactions import Snapshot

_WIDTH = len(Counts._fields)


def queues(
    snapshot: Snapshot,
    organization: str,
    names: Sequence[str] | None,
    after: str,
    limit: int,
) -> QueuePage:
    """Return queues by name."""
    # Nothing that a name can have is below "!" or above "~".
    ranges = [(after + "!", "~")]
    if names is not None:
        ranges = [(name, name) for name in sorted(names) if name > after][: limit + 1]
    rows = [
        row
        for lowest, highest in ranges
        for row in snapshot.connection.execute(
            NAMED["list_queues_of_organization"],
            {
                "organization": organization,
                "lowest": lowest,
                "highest": highest,
                "limit": limit + 1,
            },
        )
    ]
    listed = []
    for name, number, *row in rows[:limit]:
        oldest = reading.oldest_claimable(snapshot, number)
        record = QueueRecord(Counts(*row[:_WIDTH]), oldest)
        control = queue_control(row[_WIDTH], row[_WIDTH + 1 :], snapshot.now)
        waiting = snapshot.connection.execute(SQL["list_waiting_of_queue"], (number,))
        listed.append(ListedQueue(name, record, control, waiting_errors(waiting)))
    return QueuePage(listed, listed[-1].queue_name if len(rows) > limit else None)


def batches(snapshot: Snapshot, organization: str, listing: BatchListing) -> BatchPage:
    """Return batches, newest first, as of one moment."""
    limit = listing.limit
    values = {
        "organization": organization,
        "text": listing.text,
        "since": listing.since,
        "until": listing.until,
        "before": listing.before,
        "limit": limit + 1,
    }
    read = snapshot.connection.execute
    read("BEGIN")
    try:
        if listing.queues is None:
            rows = read(NAMED["list_batches_of_organization"], values).fetchall()
        else:
            rows = [
                row
                for name in listing.queues
                for row in read(NAMED["list_batches_of_queue"], {**values, "name": name})
            ]
            rows.sort(reverse=True)
        records = [reading.batch(snapshot, organization, batch_id) for _, batch_id in rows[:limit]]
    finally:
        read("COMMIT")
    return BatchPage(records, rows[limit - 1][0] if len(rows) > limit else None)


def workers(
    snapshot: Snapshot, organization: str, queues: Sequence[str] | None, limit: int
) -> list[ListedWorker]:
    """Return workers, those that were heard of last first."""
    about = len(WorkerRecord._fields)
    rows = snapshot.connection.execute(SQL["list_workers"], (organization,))
    seen = (row for row in rows if queues is None or row[1] in queues)
    return [
        ListedWorker(WorkerRecord(*row[:about]), *row[about:])
        for row in itertools.islice(seen, limit)
    ]


def search(snapshot: Snapshot, organization: str, query: JobSearch) -> JobPage:
    """Return jobs of a batch by status and text."""
    batch, text = reading.batch_number(snapshot, organization, query.batch_id), query.text
    place = {"batch": batch, "after": query.after}
    last = snapshot.connection.execute(
        NAMED["find_last_searched"], {**place, "searched": SEARCHED_MAX - 1}
    ).fetchone()
    rows = snapshot.connection.execute(
        NAMED["search_jobs"],
        {
            **place,
            "last": NEWEST if last is None else last[0],
            "statuses": reading.status_bits(query.statuses),
            "text": text,
            "key": stored_key(text),
            "number": ids.job_number(snapshot.prefix, text),
            "limit": query.limit + 1,
        },
    ).fetchall()
    jobs = [job_record(snapshot.prefix, row) for row in rows[: query.limit]]
    if len(rows) > query.limit:
        return JobPage(jobs, jobs[-1].seq)
    return JobPage(jobs, None if last is None else last[0])


def jobs(snapshot: Snapshot, organization: str, query: JobListing) -> JobPage:
    """Return jobs by queue, status, text and time, newest first."""
    number = ids.job_number(snapshot.prefix, query.text)
    before = query.before if number is None else min(query.before, number + 1)
    last = snapshot.connection.execute(
        NAMED["find_last_listed"],
        {
            "organization": organization,
            "before": before,
            "searched": (LISTED_MAX if number is None else 1) - 1,
        },
    ).fetchone()
    rows = snapshot.connection.execute(
        NAMED["list_jobs"],
        {
            "organization": organization,
            "before": before,
            "last": 0 if last is None else last[0],
            "queues": None if query.queues is None else json.dumps(list(query.queues)),
            "statuses": reading.status_bits(query.statuses),
            "waiting": query.waiting,
            "since": query.since,
            "until": query.until,
            "text": query.text,
            "key": stored_key(query.text),
            "number": number,
            "limit": query.limit + 1,
        },
    ).fetchall()
    found = [
        job_record(snapshot.prefix, row)._replace(due_at=due_at)
        for *row, due_at in rows[: query.limit]
    ]
    if len(rows) > query.limit:
        return JobPage(found, found[-1].seq)
    return JobPage(found, following(query, number, last))
