"""Keeps a key that is limited to some queues off all the others."""

from __future__ import annotations

from typing import Any

from spooled_pipelines.server.auth.authorization import QUEUE_OF_REQUEST, Scope
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.services.context import Caller
from spooled_pipelines.server.services.validation import fields
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.wire import limits


async def authorize_queues(store: JobStore, caller: Caller, request: Any) -> None:
    """RefusedError PERMISSION_DENIED where a request is about a queue that the key may not touch.

    NOT_FOUND where it is about a job or batch that is not there. An envelope passes: whoever opens
    it has what is inside checked.
    """
    if caller.queues is None:
        return
    scope = QUEUE_OF_REQUEST[request.DESCRIPTOR.full_name]
    if scope is Scope.ORGANIZATION:
        message = "this API key is limited to some queues, and the call is about all of them"
        raise RefusedError("PERMISSION_DENIED", message, reason="queue")
    for queue_name in await _queues(store, caller.organization, scope, request):
        # What is no name of a queue at all is told so by the service.
        if queue_name and queue_name not in caller.queues:
            message = "this API key is limited to other queues"
            raise RefusedError("PERMISSION_DENIED", message, reason="queue")


async def _queues(store: JobStore, organization: str, scope: Scope, request: Any) -> list[str]:
    if scope is Scope.QUEUE:
        return [request.queue_name]
    if scope is Scope.JOB:
        return [(await store.job(organization, request.job_id)).queue_name]
    if scope is Scope.BATCH:
        several = "batch_ids" in request.DESCRIPTOR.fields_by_name
        named = (
            request.batch_ids[: limits.BATCH_IDS_PER_CALL_MAX] if several else [request.batch_id]
        )
        batch_ids = [fields.batch_id(batch_id) for batch_id in named]
        records = await store.batches(organization, batch_ids) if batch_ids else []
        return [record.queue_name for record in records]
    if scope is Scope.WORKER:
        worker_id = fields.worker_id(request.worker_id, required=False)
        current = await store.queue_of_worker(organization, worker_id) if worker_id else None
        # Registering again moves a worker from one queue to another.
        has_queue = "queue_name" in request.DESCRIPTOR.fields_by_name
        return [current or "", request.queue_name if has_queue else ""]
    # Envelopes, and what belongs to a stream that was let in.
    return []
