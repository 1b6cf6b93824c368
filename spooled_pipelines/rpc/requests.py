"""Encode plain arguments as request messages; the limits of the contract are checked here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from spooled_pipelines.rpc import validation
from spooled_pipelines.rpc.struct import to_struct
from spooled_pipelines.version import __version__
from spooled_pipelines.wire import spooled_v1


def enqueue(
    queue_name: str,
    payload: Mapping[str, Any] | str,
    *,
    idempotency_key: str,
    priority: int = 0,
    max_retries: int | None = None,
    timeout_seconds: int | None = None,
    scheduled_at: datetime | None = None,
    tags: Mapping[str, str] | None = None,
) -> spooled_v1.EnqueueRequest:
    return spooled_v1.EnqueueRequest(
        queue_name=validation.queue_name(queue_name),
        payload=to_struct(payload),
        priority=validation.priority(priority),
        max_retries=validation.max_retries(max_retries),
        timeout_seconds=validation.timeout_seconds(timeout_seconds),
        scheduled_at=None
        if scheduled_at is None
        else validation.timestamp(scheduled_at, "scheduled_at"),
        idempotency_key=validation.idempotency_key(idempotency_key),
        tags=validation.text_map(tags, "tags"),
    )


def dequeue(
    queue_name: str, worker_id: str, *, batch_size: int = 1, lease_seconds: int = 30
) -> spooled_v1.DequeueRequest:
    return spooled_v1.DequeueRequest(
        queue_name=validation.queue_name(queue_name),
        worker_id=validation.worker_id(worker_id),
        lease_duration_secs=validation.lease_seconds(lease_seconds),
        batch_size=validation.batch_size(batch_size),
    )


def complete(
    job_id: str,
    worker_id: str | None,
    result: Mapping[str, Any] | str | None,
    lease_id: str | None,
) -> spooled_v1.CompleteRequest:
    return spooled_v1.CompleteRequest(
        job_id=validation.job_id(job_id),
        worker_id=_optional_worker(worker_id),
        result=None if result is None else to_struct(result, what="result"),
        lease_id=lease_id or "",
    )


def fail(
    job_id: str, worker_id: str | None, error: str, *, retry: bool, lease_id: str | None
) -> spooled_v1.FailRequest:
    return spooled_v1.FailRequest(
        job_id=validation.job_id(job_id),
        worker_id=_optional_worker(worker_id),
        error=validation.error_text(error),
        retry=retry,
        lease_id=lease_id or "",
    )


def renew_lease(
    job_id: str, worker_id: str | None, *, lease_seconds: int, lease_id: str | None
) -> spooled_v1.RenewLeaseRequest:
    return spooled_v1.RenewLeaseRequest(
        job_id=validation.job_id(job_id),
        worker_id=_optional_worker(worker_id),
        extension_secs=validation.lease_seconds(lease_seconds),
        lease_id=lease_id or "",
    )


def get_job(job_id: str) -> spooled_v1.GetJobRequest:
    return spooled_v1.GetJobRequest(job_id=validation.job_id(job_id))


def queue_stats(queue_name: str) -> spooled_v1.GetQueueStatsRequest:
    return spooled_v1.GetQueueStatsRequest(queue_name=validation.queue_name(queue_name))


def stream_jobs(
    queue_name: str, worker_id: str, *, lease_seconds: int = 30
) -> spooled_v1.StreamJobsRequest:
    return spooled_v1.StreamJobsRequest(
        queue_name=validation.queue_name(queue_name),
        worker_id=validation.worker_id(worker_id),
        lease_duration_secs=validation.lease_seconds(lease_seconds),
    )


def register_worker(
    queue_name: str,
    *,
    worker_id: str | None,
    hostname: str,
    worker_type: str,
    max_concurrency: int,
    version: str | None,
    metadata: Mapping[str, str] | None,
) -> spooled_v1.RegisterWorkerRequest:
    return spooled_v1.RegisterWorkerRequest(
        queue_name=validation.queue_name(queue_name),
        hostname=hostname,
        worker_type=worker_type,
        max_concurrency=validation.whole(max_concurrency, "max_concurrency", 1, 2**31 - 1),
        version=__version__ if version is None else version,
        metadata=validation.text_map(metadata, "metadata"),
        worker_id=None if worker_id is None else validation.worker_id(worker_id),
    )


def heartbeat(
    worker_id: str, *, current_jobs: int, status: str, metadata: Mapping[str, str] | None
) -> spooled_v1.HeartbeatRequest:
    return spooled_v1.HeartbeatRequest(
        worker_id=validation.worker_id(worker_id),
        current_jobs=validation.whole(current_jobs, "current_jobs", 0, 2**31 - 1),
        status=status,
        metadata=validation.text_map(metadata, "metadata"),
    )


def deregister_worker(worker_id: str) -> spooled_v1.DeregisterRequest:
    return spooled_v1.DeregisterRequest(worker_id=validation.worker_id(worker_id))


def _optional_worker(worker_id: str | None) -> str:
    return "" if worker_id is None else validation.worker_id(worker_id)
