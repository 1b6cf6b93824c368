"""Rows of a store's statements by the names of their columns, and the values made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.queue_limits import QueueControl, QueueLimiter, QueueLimits
from spooled_pipelines.server.core.records import BatchRecord, Counts, JobRecord, KeyRecord


class JobRow(NamedTuple):
    """`jobs.seq, {job_columns}`, then what depends on the statement."""

    seq: int
    status: int
    priority: int
    retry_count: int
    max_retries: int
    timeout_seconds: int
    created_at: int
    scheduled_at: int | None
    started_at: int | None
    completed_at: int | None
    lease_expires_at: int | None
    worker_id: str | None
    lease_id: str | None
    # As the store keeps them.
    last_error: str | bytes | None
    idempotency_key: str | bytes | None
    queue_name: str
    result: bytes | None
    payload: bytes | None
    tags: bytes | None

    def record(self, prefix: str, key: str | None, queue_name: str | None = None) -> JobRecord:
        """Return the job; the queue's name where the statement does not find it."""
        name = self.queue_name if queue_name is None else queue_name
        error = None if self.last_error is None else text(self.last_error)
        # The columns up to the error have one order in both: a claim reads a thousand rows.
        columns: tuple[Any, ...] = self
        head = (self.seq, ids.job_id(prefix, self.seq), name, *columns[_HEAD])
        return JobRecord._make((*head, error, key, self.result, self.payload, self.tags))


_HEAD = slice(JobRow._fields.index("status"), JobRow._fields.index("last_error"))
JOB_COLUMNS = JobRow._fields[1 : JobRow._fields.index("queue_name")]


class _BatchRow(NamedTuple):
    """What `read_batches` selects, in this order."""

    batch_id: str
    queue_name: str
    name: str | bytes
    sealed: bool
    seal_asked: bool
    pending: int
    waiting: int
    scheduled: int
    processing: int
    completed: int
    failed: int
    deadletter: int
    cancelled: int
    created_at: int
    changed_at: int
    worker_seen_at: int | None
    lease_expired_at: int | None
    generation: int
    changed: int
    replaced: int
    queue_paused: bool
    in_flight: int
    rate: int | None
    burst: int | None
    level: int | None
    filled_at: int | None
    max_in_flight: int | None
    set_at: int | None


BATCH_WIDTH = len(_BatchRow._fields)


def batch_record(
    columns: Iterable[Any], errors: Iterable[tuple[str | bytes, int]], now: int
) -> BatchRecord:
    """Return the batch of a row of `read_batches`."""
    row = _BatchRow._make(columns)
    first = row._fields.index("pending")
    limiter = QueueLimiter.from_row(row[row._fields.index("rate") :])
    return BatchRecord(
        batch_id=row.batch_id,
        queue_name=row.queue_name,
        name=text(row.name),
        sealed=bool(row.sealed),
        seal_asked=bool(row.seal_asked),
        counts=Counts._make(row[first : first + len(Counts._fields)]),
        created_at=row.created_at,
        changed_at=row.changed_at,
        top_errors=tuple((text(error), count) for error, count in errors),
        worker_seen_at=row.worker_seen_at,
        lease_expired_at=row.lease_expired_at,
        generation=row.generation,
        changed=row.changed,
        replaced=row.replaced,
        queue_paused=bool(row.queue_paused),
        limited_by=None if limiter is None else limiter.limited_by(row.in_flight, now),
    )


def queue_control(paused: bool | int, limits: Sequence[Any]) -> QueueControl:
    """Return what holds a queue back, of its own column and those of `queue_limits`."""
    limiter = QueueLimiter.from_row(limits)
    return QueueControl(QueueLimits() if limiter is None else limiter.limits, bool(paused))


def key_record(row: Sequence[Any]) -> KeyRecord:
    """Return the API key of a row of `find_key` or `list_keys`."""
    organization, key_id, name, role, queues, digest, created_at, expires_at, revoked_at = row
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
    )


def text(value: str | bytes) -> str:
    """Return what people wrote: PostgreSQL keeps it as bytes."""
    return value if isinstance(value, str) else value.decode()
