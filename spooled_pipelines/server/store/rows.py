"""Rows of a store's statements by the names of their columns, and the values made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat, starmap
from typing import Any

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.batches.records import BatchRecord, JobsAhead
from spooled_pipelines.server.core.jobs.records import (
    Counts,
    JobRecord,
    ThrottledQueue,
    WaitingError,
)
from spooled_pipelines.server.core.jobs.rules import HELD, error_group
from spooled_pipelines.server.core.key_records import AuditEntry, AuditKind, AuditPage, KeyRecord
from spooled_pipelines.server.core.limits.queue_limits import (
    QueueControl,
    QueueLimiter,
    QueueLimits,
)
from spooled_pipelines.server.store.limits import AHEAD_MAX

_TOP_ERRORS = 5
# Of a row of `read_batches`, between a batch's counts and the limits of its queue.
_OF_BATCH = (
    *("created_at", "changed_at", "worker_seen_at", "lease_expired_at", "generation", "changed"),
    *("replaced", "made_by", "limit_by", "limit_per_key", "queue_paused"),
)
# What every statement on whole jobs selects behind the number; then comes what depends on it.
JOB_COLUMNS = JobRecord._fields[
    JobRecord._fields.index("status") : JobRecord._fields.index("result")
]


def job_of_row(
    prefix: str,
    row: Sequence[Any],
    shown_key: Callable[[Any], str | None],
    queue_name: str | None = None,
) -> JobRecord:
    """Return the job of `seq, {job_columns}`, queue, result, payload and tags.

    `shown_key` undoes what the store makes of a key; `queue_name` is for rows without one.
    """
    seq, *columns, error, key, name, result, payload, tags = row
    name = name if queue_name is None else queue_name
    error = None if error is None else text(error)
    first = (seq, ids.job_id(prefix, seq), name)
    return JobRecord._make((*first, *columns, error, shown_key(key), result, payload, tags, None))


def jobs_of_columns(
    prefix: str,
    columns: Sequence[Sequence[Any]],
    shown_key: Callable[[Any], str | None],
    queue_name: str,
) -> list[JobRecord]:
    """Return the jobs of such rows, by column, all of one queue."""
    seqs, *some, errors, keys, _, results, payloads, tags = columns
    errors = [None if error is None else text(error) for error in errors]
    first = (seqs, ids.job_ids(prefix, seqs), repeat(queue_name, len(seqs)))
    rest = (errors, map(shown_key, keys), results, payloads, tags)
    return list(starmap(JobRecord, zip(*first, *some, *rest, strict=True)))


def batch_record(
    columns: Iterable[Any],
    errors: Iterable[tuple[str | bytes, int]],
    waiting: Iterable[tuple[str | bytes | None, int]],
    now: int,
) -> BatchRecord:
    """Return the batch of a row of `read_batches`, with the errors of dead and waiting jobs."""
    batch_id, queue_name, name, sealed, seal_asked, *rest = columns
    counts, rest = Counts._make(rest[: len(Counts._fields)]), rest[len(Counts._fields) :]
    same = dict(zip(_OF_BATCH, rest, strict=False))
    in_flight, *limits = rest[len(_OF_BATCH) :]
    limiter = QueueLimiter.from_row(limits)
    same["made_by"], same["limit_by"] = text(same["made_by"]), text(same["limit_by"] or "")
    same["queue_paused"] = bool(same["queue_paused"])
    return BatchRecord(
        batch_id=batch_id,
        queue_name=queue_name,
        name=text(name),
        sealed=bool(sealed),
        seal_asked=bool(seal_asked),
        counts=counts,
        top_errors=tuple((text(error), count) for error, count in errors),
        limited_by=None if limiter is None else limiter.limited_by(in_flight, now),
        waiting_errors=waiting_errors(waiting),
        **same,
    )


def with_ahead(record: BatchRecord, head: Sequence[tuple[str | None, Any]]) -> BatchRecord:
    """Return the batch with what goes before it, of the rows of `list_ahead`."""
    ids = [batch_id for batch_id, _ in head]
    place = ids.index(record.batch_id) if record.batch_id in ids else len(ids)
    if not place:
        return record
    names = {batch_id: "" if name is None else text(name) for batch_id, name in head[:place]}
    jobs = Counter(ids[:place]).most_common()
    batches = tuple((batch_id or "", names[batch_id], count) for batch_id, count in jobs)
    is_all = place < AHEAD_MAX
    return record._replace(behind=JobsAhead(place, is_all, batches))


def waiting_errors(
    waiting: Iterable[tuple[str | bytes | None, int]],
) -> tuple[WaitingError, ...]:
    """Return the most frequent errors of jobs that wait, given as error and time of the retry."""
    moments: dict[str, list[int]] = {}
    for error, due_at in waiting:
        if error is not None and due_at != HELD:
            moments.setdefault(error_group(text(error)), []).append(due_at)
    found = [WaitingError(error, len(due), min(due)) for error, due in moments.items()]
    return tuple(sorted(found, key=lambda each: -each.jobs)[:_TOP_ERRORS])


def queue_control(paused: bool | int, limits: Sequence[Any], now: int) -> QueueControl:
    """Return what holds a queue back, of its own column and those of `queue_limits`."""
    limiter = QueueLimiter.from_row(limits)
    if limiter is None:
        return QueueControl(QueueLimits(), bool(paused))
    return QueueControl(limiter.limits, bool(paused), limiter.throttle(now))


def throttled_queues(rows: Iterable[Sequence[Any]], now: int) -> list[ThrottledQueue]:
    """Return the queues of rows of `list_throttled` that are slower at this moment."""
    found = [(row[0], row[1], QueueLimiter._make(row[2:]).throttle(now)) for row in rows]
    return [ThrottledQueue(who, name, slow) for who, name, slow in found if slow is not None]


def key_record(row: Sequence[Any]) -> KeyRecord:
    """Return the API key of a row of `find_key` or `list_keys`."""
    organization, key_id, name, role, queues, digest, *times, created_by, last_used_at = row
    created_at, expires_at, revoked_at = times
    return KeyRecord(
        organization=organization,
        key_id=key_id,
        name=text(name),
        role=role,
        queues=tuple(queues.split(",")) if queues else (),
        digest=bytes(digest),
        created_at=created_at,
        expires_at=expires_at,
        revoked_at=revoked_at,
        created_by=created_by,
        last_used_at=last_used_at,
    )


def audit_page(rows: Sequence[Sequence[Any]], limit: int) -> AuditPage:
    """Return a page of rows of `list_audit`, of which there may be one more than fit."""
    entries = [AuditEntry._make(row[1:])._replace(kind=AuditKind(row[2])) for row in rows[:limit]]
    return AuditPage(entries, rows[limit - 1][0] if len(rows) > limit else None)


def text(value: str | bytes) -> str:
    """Return what people wrote: PostgreSQL keeps it as bytes."""
    return value if isinstance(value, str) else value.decode()
