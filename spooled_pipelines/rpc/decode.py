"""Decode messages as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from spooled_pipelines.errors import ServerError
from spooled_pipelines.rpc.struct import from_struct
from spooled_pipelines.types import (
    BatchStats,
    CancelResult,
    EnqueueResult,
    FailResult,
    HeartbeatResult,
    Job,
    JobAttempt,
    JobStatus,
    Queue,
    QueueLimits,
    QueueStats,
    QueueThrottle,
    RowSchema,
    Stall,
    WaitingError,
    WorkerRegistration,
    WorkerState,
)
from spooled_pipelines.wire import batch_v1, queue_admin_v1, spooled_v1

if TYPE_CHECKING:
    from spooled_pipelines.wire.well_known import Timestamp

T = TypeVar("T")
NO_SCHEMAS: Mapping[int, RowSchema] = {}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_STATUS_BY_NUMBER = {
    number: JobStatus(name.removeprefix("JOB_STATUS_").lower())
    for name, number in spooled_v1.JobStatus.items()
}
_CAUSE_BY_NUMBER = {
    number: name.removeprefix("CAUSE_").lower() for name, number in batch_v1.Stall.Cause.items()
}

_ENDING_BY_NUMBER = {
    number: name.removeprefix("ENDING_").lower()
    for name, number in batch_v1.Attempt.Ending.items()
    if number
}


def time_from(timestamp: Timestamp) -> datetime:
    """Return the aware UTC time of a Timestamp; digits below a microsecond are dropped."""
    return _time(timestamp.seconds, timestamp.nanos)


# Jobs that come together have most of their times in common.
@lru_cache(maxsize=256)
def _time(seconds: int, nanos: int) -> datetime:
    try:
        return _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
    except OverflowError:
        raise ServerError(
            f"the server sent a time that does not exist ({seconds} s after 1970)"
        ) from None


def job_status_from(number: int) -> JobStatus:
    """Return the status of a number; UNSPECIFIED if this version does not know it."""
    return _STATUS_BY_NUMBER.get(number, JobStatus.UNSPECIFIED)


def job_from(message: spooled_v1.Job, schemas: Mapping[int, RowSchema] = NO_SCHEMAS) -> Job:
    """Return a job, with aware times and a dict as payload."""
    return Job(
        id=message.id,
        queue_name=message.queue_name,
        status=job_status_from(message.status),
        payload=from_struct(message.payload),
        organization_id=message.organization_id,
        result=from_struct(message.result) if message.HasField("result") else None,
        retry_count=message.retry_count,
        max_retries=message.max_retries,
        deliveries=message.deliveries,
        run_alone=message.run_alone,
        last_error=message.last_error or None,
        priority=message.priority,
        timeout_seconds=message.timeout_seconds,
        created_at=_time_of(message, "created_at"),
        scheduled_at=_time_of(message, "scheduled_at"),
        started_at=_time_of(message, "started_at"),
        completed_at=_time_of(message, "completed_at"),
        lease_expires_at=_time_of(message, "lease_expires_at"),
        assigned_worker_id=message.assigned_worker_id or None,
        idempotency_key=message.idempotency_key or None,
        lease_id=message.lease_id or None,
        traceparent=message.traceparent or None,
        tracestate=message.tracestate or None,
        schema=schemas.get(message.schema_id),
    )


def listed_job_from(message: queue_admin_v1.ListedJob) -> Job:
    """Return a job of a list, which has no payload and no result."""
    return replace(job_from(message.job), due_at=_time_of(message, "due_at"))


def enqueue_result_from(message: spooled_v1.EnqueueResponse) -> EnqueueResult:
    return _same(EnqueueResult, message)


def fail_result_from(message: spooled_v1.FailResponse) -> FailResult:
    return FailResult(will_retry=message.will_retry, next_retry_delay=message.next_retry_delay_secs)


def queue_stats_from(message: spooled_v1.GetQueueStatsResponse) -> QueueStats:
    return _same(QueueStats, message)


def queue_limits_from(message: queue_admin_v1.QueueLimits) -> QueueLimits:
    return QueueLimits(**{field.name: value for field, value in message.ListFields()})


def queue_from(message: queue_admin_v1.Queue) -> Queue:
    stats = queue_stats_from(message.stats)
    return Queue(
        name=stats.queue_name,
        stats=stats,
        waiting=message.waiting,
        cancelled=message.cancelled,
        expired=message.expired,
        paused=message.paused,
        limits=queue_limits_from(message.limits),
        waiting_errors=tuple(map(_waiting_error_from, message.waiting_errors)),
        throttle=_throttle_from(message.throttle) if message.HasField("throttle") else None,
    )


def _throttle_from(message: queue_admin_v1.QueueThrottle) -> QueueThrottle:
    held_until = time_from(message.held_until) if message.HasField("held_until") else None
    return QueueThrottle(message.jobs_per_second, time_from(message.since), held_until)


def worker_from(message: queue_admin_v1.Worker) -> WorkerState:
    times = {name: _time_of(message, name) for name in ("registered_at", "seen_at")}
    return _same(WorkerState, message, **times)


def registration_from(message: spooled_v1.RegisterWorkerResponse) -> WorkerRegistration:
    return WorkerRegistration(
        worker_id=message.worker_id,
        lease_seconds=message.lease_duration_secs,
        heartbeat_seconds=message.heartbeat_interval_secs,
    )


def heartbeat_result_from(message: spooled_v1.HeartbeatResponse) -> HeartbeatResult:
    return _same(HeartbeatResult, message)


def batch_stats_from(message: batch_v1.BatchStats) -> BatchStats:
    """Return a batch's statistics, with the causes of a stall by their lower-case names."""
    return _same(
        BatchStats,
        message,
        created_at=_time_of(message, "created_at"),
        changed_at=_time_of(message, "changed_at"),
        stalls=tuple(
            Stall(_CAUSE_BY_NUMBER.get(stall.cause, "unspecified"), stall.message)
            for stall in message.stalls
        ),
        top_errors=tuple((error.error, error.count) for error in message.top_errors),
        waiting_errors=tuple(map(_waiting_error_from, message.waiting_errors)),
    )


def _waiting_error_from(message: batch_v1.WaitingError) -> WaitingError:
    return WaitingError(message.error, message.count, time_from(message.next_at))


def cancel_result_from(message: batch_v1.CancelBatchResponse) -> CancelResult:
    return _same(CancelResult, message)


def attempt_from(message: batch_v1.Attempt) -> JobAttempt:
    return JobAttempt(
        number=message.number,
        worker_id=message.worker_id or None,
        started_at=time_from(message.started_at),
        ended_at=_time_of(message, "ended_at"),
        error=message.error or None,
        ending=_ENDING_BY_NUMBER.get(message.ending),
        exit_code=message.exit_code if message.HasField("exit_code") else None,
    )


def _same(value: type[T], message: Any, **others: Any) -> T:
    """Return the value whose fields are those of the message with their names, but for others."""
    fields = (name for name in value.__annotations__ if name not in others)
    return value(**{name: getattr(message, name) for name in fields}, **others)


def _time_of(
    message: spooled_v1.Job
    | batch_v1.BatchStats
    | batch_v1.Attempt
    | queue_admin_v1.Worker
    | queue_admin_v1.ListedJob,
    field: str,
) -> datetime | None:
    if not message.HasField(field):
        return None
    return time_from(getattr(message, field))
