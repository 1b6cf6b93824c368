"""See `listing.Listing`: reads of what is committed."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Sequence

from spooled_pipelines.server.core import ids, queue_limits
from spooled_pipelines.server.core.errors import not_found
from spooled_pipelines.server.core.queue_limits import QueueControl, QueueLimits
from spooled_pipelines.server.core.records import Counts, JobPage, QueueRecord, WorkerRecord
from spooled_pipelines.server.store.listing import (
    NEWEST,
    SEARCHED_MAX,
    BatchPage,
    ListedQueue,
    ListedWorker,
    QueuePage,
)
from spooled_pipelines.server.store.sqlite import reading
from spooled_pipelines.server.store.sqlite.jobs import job_record, stored_key
from spooled_pipelines.server.store.sqlite.queries import SQL

_WIDTH = len(Counts._fields)


def queues(
    connection: sqlite3.Connection,
    organization: str,
    names: Sequence[str] | None,
    after: str,
    limit: int,
) -> QueuePage:
    """Queues by name."""
    # Nothing that a name can have is below "!" or above "~".
    ranges = [(after + "!", "~")]
    if names is not None:
        ranges = [(name, name) for name in sorted(names) if name > after][: limit + 1]
    rows = [
        row
        for lowest, highest in ranges
        for row in connection.execute(
            SQL["queues_of_organization"], (organization, lowest, highest, limit + 1)
        )
    ]
    listed = []
    for name, number, *row in rows[:limit]:
        oldest = connection.execute(SQL["oldest_claimable"], (number,)).fetchone()[0]
        throttle = queue_limits.stored(row[_WIDTH + 2 :])
        limits = QueueLimits() if throttle is None else throttle.limits
        control = QueueControl(limits, bool(row[_WIDTH]))
        listed.append(ListedQueue(name, QueueRecord(Counts(*row[:_WIDTH]), oldest), control))
    return QueuePage(listed, listed[-1].queue_name if len(rows) > limit else None)


def batches(
    connection: sqlite3.Connection,
    organization: str,
    queues: Sequence[str] | None,
    before: int,
    limit: int,
    now: int,
) -> BatchPage:
    """Batches, newest first, as of one moment."""
    connection.execute("BEGIN")
    try:
        if queues is None:
            values = (organization, before, limit + 1)
            rows = connection.execute(SQL["batches_of_organization"], values).fetchall()
        else:
            rows = [
                row
                for name in queues
                for row in connection.execute(
                    SQL["batches_of_queue"], (organization, name, before, limit + 1)
                )
            ]
            rows.sort(reverse=True)
        records = [
            reading.batch(connection, organization, batch_id, now) for _, batch_id in rows[:limit]
        ]
    finally:
        connection.execute("COMMIT")
    return BatchPage(records, rows[limit - 1][0] if len(rows) > limit else None)


def workers(
    connection: sqlite3.Connection, organization: str, queues: Sequence[str] | None, limit: int
) -> list[ListedWorker]:
    """Workers, those that were heard of last first."""
    about = len(WorkerRecord._fields)
    rows = connection.execute(SQL["workers_of_organization"], (organization,))
    seen = (row for row in rows if queues is None or row[1] in queues)
    return [
        ListedWorker(WorkerRecord(*row[:about]), *row[about:])
        for row in itertools.islice(seen, limit)
    ]


def find_jobs(
    connection: sqlite3.Connection,
    prefix: str,
    organization: str,
    batch_id: str,
    statuses: Sequence[int],
    text: str,
    after: int,
    limit: int,
) -> JobPage:
    """Jobs of a batch by status and text."""
    found = connection.execute(SQL["batch_number"], (organization, batch_id)).fetchone()
    if found is None:
        raise not_found(f"there is no batch {batch_id!r}")
    batch = found[0]
    values = (batch, after, SEARCHED_MAX - 1)
    last = connection.execute(SQL["last_searched"], values).fetchone()
    # A bit for each status that is wanted.
    wanted = sum(1 << status for status in set(statuses)) if statuses else -1
    about = (text, stored_key(text), ids.job_number(prefix, text))
    rows = connection.execute(
        SQL["find_jobs"], (batch, after, *(last or (NEWEST,)), wanted, *about, limit + 1)
    ).fetchall()
    jobs = [job_record(prefix, row) for row in rows[:limit]]
    if len(rows) > limit:
        return JobPage(jobs, jobs[-1].seq)
    return JobPage(jobs, None if last is None else last[0])
