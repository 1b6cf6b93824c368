"""A single job of a request, checked."""

from __future__ import annotations

from collections.abc import Callable

from spooled_pipelines.server.core import validation
from spooled_pipelines.server.core.jobs.records import NewJob
from spooled_pipelines.server.services.validation.structs import check_object
from spooled_pipelines.wire.spooled_v1 import EnqueueRequest


def new_job(
    request: EnqueueRequest, max_retries: Callable[[int], int] = validation.max_retries
) -> NewJob:
    """Return the job of a request as it will be stored; `max_retries` reads its retries."""
    payload: bytes = request.payload.SerializeToString()
    check_object("payload", payload)
    scheduled = request.HasField("scheduled_at")
    return NewJob(
        queue_name=validation.queue_name(request.queue_name),
        payload=payload,
        priority=validation.priority(request.priority),
        max_retries=max_retries(request.max_retries),
        timeout_seconds=validation.timeout_seconds(request.timeout_seconds),
        scheduled_at=validation.timestamp("scheduled_at", request.scheduled_at)
        if scheduled
        else None,
        idempotency_key=validation.idempotency_key(request.idempotency_key),
        tags=validation.tags(request.tags),
    )
