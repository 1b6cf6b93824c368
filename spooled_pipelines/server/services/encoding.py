"""Records of the store as messages on the wire; jobs as bytes, so that payloads stay untouched."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeVar

from spooled_pipelines.server.core.batches.records import BatchRecord, ChunkStored
from spooled_pipelines.server.core.batches.stall_causes import stalls
from spooled_pipelines.server.core.ids import id_start
from spooled_pipelines.server.core.jobs.columns import JobColumns
from spooled_pipelines.server.core.jobs.records import (
    AttemptRecord,
    JobRecord,
    ListedQueue,
    ListedWorker,
    QueueRecord,
    Status,
    WaitingError,
)
from spooled_pipelines.server.core.limits.queue_limits import QueueLimits, Throttle
from spooled_pipelines.server.core.protobuf import field
from spooled_pipelines.server.core.runtime.presence import OFFLINE_MS
from spooled_pipelines.server.services.validation.chunks import RowsChecked
from spooled_pipelines.wire import batch_v1, queue_admin_v1
from spooled_pipelines.wire.spooled_v1 import GetQueueStatsResponse, Job
from spooled_pipelines.wire.well_known import Timestamp

T = TypeVar("T")
_TRACED = b"traceparent"
# Fields of a spooled.v1.Job.
_ID, _PAYLOAD, _RESULT, _LAST_ERROR, _IDEMPOTENCY_KEY, _LEASE_ID = 1, 5, 6, 9, 18, 19
# What jobs of one claim have in common, if they came together.
_TIMES = ("created_at", "scheduled_at", "started_at", "completed_at", "lease_expires_at")
_SHARED = (
    *("queue_name", "status", "retry_count", "max_retries", "deliveries", "run_alone"),
    *("priority", "timeout_seconds", "worker_id", "schema_id", *_TIMES),
)
_shared = itemgetter(*map(JobRecord._fields.index, _SHARED))
# Of an EnqueueBatchResponse, and of a ChunkOutcome.
_OUTCOME_FIELD = 2
_JOB_ID_TAG = b"\x22"
# Of a ListBatchJobsResponse, and of its JobColumns.
_COLUMNS_FIELD = 3
_COLUMN_OF_IDS = b"\x0a"
_JOB_ID_LENGTH = 36


def timestamp(milliseconds: int) -> Timestamp:
    """Return a moment as protobuf has it."""
    seconds, rest = divmod(milliseconds, 1000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000_000)


def _optional(milliseconds: int | None) -> Timestamp | None:
    return None if milliseconds is None else timestamp(milliseconds)


def job_bytes(record: JobRecord, organization: str) -> bytes:
    """Return a `spooled.v1.Job`, serialized."""
    leased = record.status == Status.PROCESSING
    parts = [_common(organization, _shared(record)), field(_ID, record.job_id.encode())]
    if record.last_error is not None:
        parts.append(field(_LAST_ERROR, record.last_error.encode()))
    if record.idempotency_key is not None:
        parts.append(field(_IDEMPOTENCY_KEY, record.idempotency_key.encode()))
    if leased and record.lease_id is not None:
        parts.append(field(_LEASE_ID, record.lease_id.encode()))
    if record.tags is not None and _TRACED in record.tags:
        tags = batch_v1.Tags.FromString(record.tags).tags
        context = Job(traceparent=tags.get("traceparent"), tracestate=tags.get("tracestate"))
        parts.append(context.SerializeToString())
    if record.payload is not None:
        parts.append(field(_PAYLOAD, record.payload))
    if record.result is not None:
        parts.append(field(_RESULT, record.result))
    return b"".join(parts)


def page_message(items: Iterable[bytes], after: int | None) -> bytes:
    """Return a page of messages, serialized, with the token of the next one."""
    parts = [field(1, item) for item in items]
    if after is not None:
        parts.append(field(2, str(after).encode()))
    return b"".join(parts)


def columns_message(prefix: str, page: JobColumns) -> bytes:
    """Return a ListBatchJobsResponse, serialized."""
    columns = batch_v1.JobColumns(
        statuses=page.statuses,  # type: ignore[arg-type]  # the same numbers
        completed_at=_filled(page.completed_at, 0),
        last_errors=_filled(page.last_errors, ""),
        results=_filled(page.results, b""),
        payloads=_filled(page.payloads, b""),
        schema_ids=_filled(page.schema_ids, 0),
        places=page.seqs,
    )
    token = "" if page.after is None else str(page.after)
    ids = _job_ids(_COLUMN_OF_IDS, prefix, page.seqs)
    rest = batch_v1.ListBatchJobsResponse(next_page_token=token).SerializeToString()
    return field(_COLUMNS_FIELD, ids + columns.SerializeToString()) + rest


def _filled(values: Sequence[T | None], empty: T) -> Sequence[T]:
    """Return a column as it is sent: without values where all are empty."""
    if not any(values):
        return ()
    return [empty if value is None else value for value in values]


# Making it is most of the work.
@lru_cache(maxsize=128)
def _common(organization: str, shared: tuple[Any, ...]) -> bytes:
    """Return what of a `spooled.v1.Job` other jobs may share."""
    fields = dict(zip(_SHARED, shared, strict=True))
    if fields["status"] != Status.PROCESSING:
        fields["lease_expires_at"] = None
    fields |= {name: _optional(fields[name]) for name in _TIMES}
    fields["run_alone"] = bool(fields["run_alone"])
    worker_id = fields.pop("worker_id")
    job = Job(organization_id=organization, assigned_worker_id=worker_id, **fields)
    return job.SerializeToString()


def queue_stats(queue_name: str, record: QueueRecord, now: int) -> GetQueueStatsResponse:
    """Return a queue's counters."""
    counts = record.counts
    return GetQueueStatsResponse(
        queue_name=queue_name,
        pending=counts.pending,
        scheduled=counts.scheduled,
        processing=counts.processing,
        completed=counts.completed,
        failed=counts.failed,
        deadletter=counts.deadletter,
        total=counts.total,
        max_age_ms=0 if record.oldest is None else max(now - record.oldest, 0),
    )


def queue_limits(limits: QueueLimits) -> queue_admin_v1.QueueLimits:
    """Return the limits of a queue; those that there are not are not set."""
    return queue_admin_v1.QueueLimits(
        jobs_per_second=limits.jobs_per_second,
        burst=limits.burst,
        max_in_flight=limits.max_in_flight,
    )


def queue_throttle(throttle: Throttle | None) -> queue_admin_v1.QueueThrottle | None:
    """Return how a queue is slowed, if it is."""
    if throttle is None:
        return None
    return queue_admin_v1.QueueThrottle(
        jobs_per_second=throttle.jobs_per_second,
        since=timestamp(throttle.since),
        held_until=_optional(throttle.held_until),
    )


def listed_queue(queue: ListedQueue, now: int) -> queue_admin_v1.Queue:
    """Return a queue's counters and what holds it back."""
    counts = queue.record.counts
    return queue_admin_v1.Queue(
        stats=queue_stats(queue.queue_name, queue.record, now),
        waiting=counts.waiting,
        cancelled=counts.cancelled,
        expired=counts.expired,
        paused=queue.control.paused,
        limits=queue_limits(queue.control.limits),
        waiting_errors=_waiting_errors(queue.waiting_errors),
        throttle=queue_throttle(queue.control.throttle),
    )


def listed_worker(listed: ListedWorker, now: int) -> queue_admin_v1.Worker:
    """Return a worker, and whether it is offline."""
    worker = listed.worker
    return queue_admin_v1.Worker(
        worker_id=worker.worker_id,
        queue_name=worker.queue_name,
        hostname=worker.hostname,
        worker_type=worker.worker_type,
        version=worker.version,
        max_concurrency=worker.max_concurrency,
        current_jobs=listed.current_jobs,
        status=listed.status,
        registered_at=timestamp(listed.registered_at),
        seen_at=timestamp(listed.seen_at),
        offline=now - listed.seen_at >= OFFLINE_MS,
    )


def batch_stats(record: BatchRecord, now: int, has_consumer: bool) -> batch_v1.BatchStats:
    """Return a batch's counters; `has_consumer` says that somebody takes jobs of its queue."""
    counts = record.counts
    return batch_v1.BatchStats(
        batch_id=record.batch_id,
        queue_name=record.queue_name,
        name=record.name,
        sealed=record.sealed,
        settled=record.settled,
        total=counts.total,
        pending=counts.pending,
        scheduled=counts.scheduled,
        processing=counts.processing,
        completed=counts.completed,
        deadletter=counts.deadletter,
        cancelled=counts.cancelled,
        created_at=timestamp(record.created_at),
        changed_at=timestamp(record.changed_at),
        stalls=stalls(record, now, has_consumer),
        top_errors=[
            batch_v1.ErrorCount(error=error, count=count) for error, count in record.top_errors
        ],
        generation=record.generation,
        changed=record.changed,
        replaced=record.replaced,
        made_by=record.made_by,
        waiting=counts.waiting,
        waiting_errors=_waiting_errors(record.waiting_errors),
        expired=counts.expired,
    )


def _waiting_errors(errors: Iterable[WaitingError]) -> list[batch_v1.WaitingError]:
    return [
        batch_v1.WaitingError(error=each.error, count=each.jobs, next_at=timestamp(each.next_at))
        for each in errors
    ]


def attempt(record: AttemptRecord) -> batch_v1.Attempt:
    """Return a delivery of a job."""
    return batch_v1.Attempt(
        number=record.number,
        worker_id=record.worker_id,
        started_at=timestamp(record.started_at),
        ended_at=_optional(record.ended_at),
        error=record.error,
        ending=record.ending,  # type: ignore[arg-type]  # the same number
        exit_code=record.exit_code,
    )


def chunk_outcome(prefix: str, checked: RowsChecked, stored: ChunkStored) -> bytes:
    """Return an EnqueueBatchResponse, serialized."""
    places: Sequence[int] = range(checked.rows)
    if checked.rejected:
        places = [place for place in places if place not in checked.rejected]
    head = batch_v1.ChunkOutcome(
        number=checked.number,
        created=stored.rows - len(stored.duplicates),
        duplicates=len(stored.duplicates),
        duplicate_rows=[places[row] for row in stored.duplicates],
        changed_rows=[places[row] for row in stored.changed],
        replaced_rows=[places[row] for row in stored.replaced],
        rejected=[
            batch_v1.RejectedRow(row=row, code="INVALID_ARGUMENT", message=message)
            for row, message in sorted(checked.rejected.items())
        ],
    ).SerializeToString()
    seqs = stored.seqs
    if stored.first is not None:
        seqs = range(stored.first, stored.first + stored.rows)
    ids = _job_ids(_JOB_ID_TAG, prefix, seqs)
    if checked.rejected:
        ids = _with_gaps(ids, checked)
    return field(_OUTCOME_FIELD, head + ids)


def _job_ids(tag: bytes, prefix: str, seqs: Sequence[int]) -> bytes:
    """Return the field with this tag, job_ids, for these jobs, without a step of Python for each.

    Each number becomes sixteen hex digits behind a space, of which the first five are those of the
    organization that has all of them; that space and those digits are then replaced by the field's
    head and what all ids begin with.
    """
    if not seqs:
        return b""
    digits = struct.pack(f">{len(seqs)}Q", *seqs).hex(" ", 8)
    head = tag + bytes([_JOB_ID_LENGTH]) + id_start(prefix, seqs[0]).encode() + b"0"
    return b" ".join((b"", digits.encode())).replace(f" {digits[:5]}".encode(), head)


def _with_gaps(ids: bytes, checked: RowsChecked) -> bytes:
    width = len(_JOB_ID_TAG) + 1 + _JOB_ID_LENGTH
    parts, start = [], 0
    for place in range(checked.rows):
        if place in checked.rejected:
            parts.append(_JOB_ID_TAG + b"\0")
        else:
            parts.append(ids[start : start + width])
            start += width
    return b"".join(parts)
