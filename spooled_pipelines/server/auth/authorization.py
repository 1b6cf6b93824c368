"""Authorization: the roles of each RPC, and by which field a request names its queue.

Both tables are held against the descriptors when a server starts, so that neither a new RPC nor a
new message can be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from spooled_pipelines.server.auth.caller import Caller, Role
from spooled_pipelines.server.core import validation
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.wire import limits
from spooled_pipelines.wire.methods import Method

_ADMIN = frozenset({Role.ADMIN})
_PRODUCE = _ADMIN | {Role.PRODUCE}
_WORK = _ADMIN | {Role.WORK}
# The producer of a batch waits for it and reads its results.
_READ = _PRODUCE | {Role.READ}
_ANY = _READ | {Role.WORK}

_QUEUE = "/spooled.v1.QueueService/"
_WORKER = "/spooled.v1.WorkerService/"
_BATCH = "/spooled_pipelines.v1.BatchService/"
_QUEUE_ADMIN = "/spooled_pipelines.v1.QueueAdminService/"
_KEY = "/spooled_pipelines.v1.KeyService/"

ROLES: Mapping[str, frozenset[Role]] = {
    _QUEUE + "Enqueue": _PRODUCE,
    _QUEUE + "Dequeue": _WORK,
    _QUEUE + "Complete": _WORK,
    _QUEUE + "Fail": _WORK,
    _QUEUE + "RenewLease": _WORK,
    _QUEUE + "GetJob": _ANY,
    _QUEUE + "GetQueueStats": _ANY,
    _QUEUE + "StreamJobs": _WORK,
    _QUEUE + "ProcessJobs": _WORK,
    _WORKER + "Register": _WORK,
    _WORKER + "Heartbeat": _WORK,
    _WORKER + "Deregister": _WORK,
    _WORKER + "ProcessJobs": _WORK,
    _BATCH + "EnqueueJob": _PRODUCE,
    _BATCH + "EnqueueBatch": _PRODUCE,
    _BATCH + "SealBatch": _PRODUCE,
    _BATCH + "FinishPart": _PRODUCE,
    _BATCH + "ListParts": _READ,
    _BATCH + "GetBatchStats": _READ,
    _BATCH + "WatchBatch": _READ,
    _BATCH + "ListBatchJobs": _READ,
    _BATCH + "CancelBatch": _PRODUCE,
    _BATCH + "RetryBatch": _PRODUCE,
    _BATCH + "ListAttempts": _READ,
    _BATCH + "FindKeys": _READ,
    _BATCH + "ListBatches": _READ,
    _BATCH + "FindBatchJobs": _READ,
    _BATCH + "Settle": _WORK,
    _BATCH + "ClaimChunks": _WORK,
    _BATCH + "RenewChunk": _WORK,
    _BATCH + "ReportWorkerDeath": _WORK,
    _BATCH + "ReviseDeadLetters": _PRODUCE,
    _BATCH + "GetPayloadSchema": _ANY,
    _BATCH + "GetResultSchema": _READ,
    _BATCH + "KeepResultSchema": _WORK,
    _QUEUE_ADMIN + "PauseQueue": _ADMIN,
    _QUEUE_ADMIN + "ResumeQueue": _ADMIN,
    _QUEUE_ADMIN + "PurgeQueue": _ADMIN,
    _QUEUE_ADMIN + "RenameQueue": _ADMIN,
    _QUEUE_ADMIN + "ListDeadLetters": _READ,
    _QUEUE_ADMIN + "RedriveDeadLetters": _ADMIN,
    _QUEUE_ADMIN + "SetQueueLimits": _ADMIN,
    _QUEUE_ADMIN + "GetQueueLimits": _ANY,
    _QUEUE_ADMIN + "ListQueues": _ANY,
    _QUEUE_ADMIN + "ListWorkers": _ANY,
    _QUEUE_ADMIN + "ListJobs": _READ,
    _KEY + "CreateKey": _ADMIN,
    _KEY + "ListKeys": _ADMIN,
    _KEY + "RevokeKey": _ADMIN,
    _KEY + "ListAudit": _ADMIN,
}

# What only looks: an operator may do it in every organization.
LOOKS = frozenset(
    path for path in ROLES if path.rpartition("/")[2].startswith(("List", "Get", "Find", "Watch"))
)

# What is audited: what admins alone may do, unless it only looks, and what changes many jobs.
ACTS = frozenset(path for path, roles in ROLES.items() if roles == _ADMIN and path not in LOOKS) | {
    _BATCH + name for name in ("CancelBatch", "RetryBatch", "ReviseDeadLetters")
}

# The roles that see the content of jobs on the dashboard: a screen has more readers than the one
# who signed in, and somebody who only watches the numbers need not see the data. Over RPC a `read`
# key gets the content, since a wait for results needs it.
SEES_PAYLOADS = _PRODUCE | {Role.WORK}


class QueueSource(Enum):
    """How a request names the queue that it touches."""

    # Where it may be empty, the answer is about all queues of the key (`Caller.among`).
    QUEUE = "queue_name"
    JOB = "job_id"
    BATCH = "batch_id or batch_ids"
    WORKER = "worker_id, and queue_name where it has one"
    # An envelope: the message inside it names the queue.
    ENVELOPE = "its one message"
    # A part of what the first message of the stream opened.
    STREAM_OPENED = "the first message"
    # None: keys that are limited to some queues are refused.
    ORGANIZATION = "nothing"


_SPOOLED = "spooled.v1."
_OURS = "spooled_pipelines.v1."

QUEUE_OF_REQUEST: Mapping[str, QueueSource] = {
    _SPOOLED + "EnqueueRequest": QueueSource.QUEUE,
    _SPOOLED + "DequeueRequest": QueueSource.QUEUE,
    _SPOOLED + "CompleteRequest": QueueSource.JOB,
    _SPOOLED + "FailRequest": QueueSource.JOB,
    _SPOOLED + "RenewLeaseRequest": QueueSource.JOB,
    _SPOOLED + "GetJobRequest": QueueSource.JOB,
    _SPOOLED + "GetQueueStatsRequest": QueueSource.QUEUE,
    _SPOOLED + "StreamJobsRequest": QueueSource.QUEUE,
    _SPOOLED + "ProcessRequest": QueueSource.ENVELOPE,
    _SPOOLED + "SubscribeRequest": QueueSource.QUEUE,
    _SPOOLED + "RegisterWorkerRequest": QueueSource.WORKER,
    _SPOOLED + "HeartbeatRequest": QueueSource.WORKER,
    _SPOOLED + "DeregisterRequest": QueueSource.WORKER,
    _OURS + "EnqueueJobRequest": QueueSource.ENVELOPE,
    _OURS + "EnqueueBatchRequest": QueueSource.ENVELOPE,
    _OURS + "OpenBatch": QueueSource.QUEUE,
    _OURS + "JobChunk": QueueSource.STREAM_OPENED,
    _OURS + "SealBatchRequest": QueueSource.BATCH,
    _OURS + "FinishPartRequest": QueueSource.BATCH,
    _OURS + "ListPartsRequest": QueueSource.BATCH,
    _OURS + "GetBatchStatsRequest": QueueSource.BATCH,
    _OURS + "WatchBatchRequest": QueueSource.BATCH,
    _OURS + "ListBatchJobsRequest": QueueSource.BATCH,
    _OURS + "CancelBatchRequest": QueueSource.BATCH,
    _OURS + "RetryBatchRequest": QueueSource.BATCH,
    _OURS + "ListAttemptsRequest": QueueSource.JOB,
    _OURS + "FindKeysRequest": QueueSource.QUEUE,
    _OURS + "ListBatchesRequest": QueueSource.QUEUE,
    _OURS + "FindBatchJobsRequest": QueueSource.BATCH,
    _OURS + "SettleRequest": QueueSource.ENVELOPE,
    _OURS + "JobOutcome": QueueSource.JOB,
    _OURS + "ChunkOutcomes": QueueSource.QUEUE,
    _OURS + "ClaimChunksRequest": QueueSource.QUEUE,
    _OURS + "RenewChunkRequest": QueueSource.QUEUE,
    _OURS + "ReportWorkerDeathRequest": QueueSource.WORKER,
    _OURS + "ReviseDeadLettersRequest": QueueSource.ENVELOPE,
    _OURS + "DeadLetterRevision": QueueSource.JOB,
    _OURS + "GetPayloadSchemaRequest": QueueSource.JOB,
    _OURS + "GetResultSchemaRequest": QueueSource.BATCH,
    _OURS + "KeepResultSchemaRequest": QueueSource.JOB,
    _OURS + "PauseQueueRequest": QueueSource.QUEUE,
    _OURS + "ResumeQueueRequest": QueueSource.QUEUE,
    _OURS + "PurgeQueueRequest": QueueSource.QUEUE,
    _OURS + "RenameQueueRequest": QueueSource.QUEUE,
    _OURS + "ListDeadLettersRequest": QueueSource.QUEUE,
    _OURS + "RedriveDeadLettersRequest": QueueSource.QUEUE,
    _OURS + "SetQueueLimitsRequest": QueueSource.QUEUE,
    _OURS + "GetQueueLimitsRequest": QueueSource.QUEUE,
    _OURS + "ListQueuesRequest": QueueSource.QUEUE,
    _OURS + "ListWorkersRequest": QueueSource.QUEUE,
    _OURS + "ListJobsRequest": QueueSource.QUEUE,
    _OURS + "CreateKeyRequest": QueueSource.ORGANIZATION,
    _OURS + "ListKeysRequest": QueueSource.ORGANIZATION,
    _OURS + "RevokeKeyRequest": QueueSource.ORGANIZATION,
    _OURS + "ListAuditRequest": QueueSource.ORGANIZATION,
}


def check_tables(methods: Iterable[Method]) -> None:
    """Raise RuntimeError with the RPCs and the requests that the tables do not have."""
    methods = tuple(methods)
    missing = [method.path for method in methods if method.path not in ROLES]
    for method in methods:
        missing += _without_source(method.request_class.DESCRIPTOR)
    if missing:
        names = ", ".join(missing)
        raise RuntimeError(f"server/auth/authorization.py does not say who may use {names}")


def _without_source(message: Any) -> list[str]:
    source = QUEUE_OF_REQUEST.get(message.full_name)
    if source is None:
        return [message.full_name]
    if source is not QueueSource.ENVELOPE:
        return []
    # A text or a time beside the message in an envelope says something of it, and names no queue.
    inner = [field.message_type for field in message.fields if field.message_type is not None]
    ours = [each for each in inner if each.file.package != "google.protobuf"]
    return [name for each in ours for name in _without_source(each)]


async def authorize_queues(store: JobStore, caller: Caller, request: Any) -> None:
    """Raise RefusedError PERMISSION_DENIED where the key may not touch the request's queue.

    NOT_FOUND where the request is about a job or batch that does not exist. An envelope passes:
    the service that opens it has its content checked. An earlier name of a queue in the request
    gives way to its present one.
    """
    if caller.renamed and "queue_name" in request.DESCRIPTOR.fields_by_name:
        request.queue_name = caller.renamed.get(request.queue_name, request.queue_name)
    allowed = caller.queues
    if allowed is None:
        return
    source = QUEUE_OF_REQUEST[request.DESCRIPTOR.full_name]
    if source is QueueSource.ORGANIZATION:
        message = "this API key is limited to some queues, and the call is about all of them"
        raise RefusedError("PERMISSION_DENIED", message, reason="queue")
    for queue_name in await _queues(store, caller.organization, source, request):
        # A name that no queue can have is refused by the service.
        if queue_name and queue_name not in allowed:
            message = "this API key is limited to other queues"
            raise RefusedError("PERMISSION_DENIED", message, reason="queue")


async def _queues(
    store: JobStore, organization: str, source: QueueSource, request: Any
) -> list[str]:
    if source is QueueSource.QUEUE:
        return [request.queue_name]
    if source is QueueSource.JOB:
        return [(await store.job(organization, request.job_id)).queue_name]
    if source is QueueSource.BATCH:
        several = "batch_ids" in request.DESCRIPTOR.fields_by_name
        named = (
            request.batch_ids[: limits.BATCH_IDS_PER_CALL_MAX] if several else [request.batch_id]
        )
        batch_ids = [validation.batch_id(batch_id) for batch_id in named]
        records = await store.batches(organization, batch_ids) if batch_ids else []
        return [record.queue_name for record in records]
    if source is QueueSource.WORKER:
        worker_id = validation.worker_id(request.worker_id, required=False)
        current = await store.queue_of_worker(organization, worker_id) if worker_id else None
        # Registering again moves a worker from one queue to another.
        has_queue = "queue_name" in request.DESCRIPTOR.fields_by_name
        return [current or "", request.queue_name if has_queue else ""]
    # Envelopes, and parts of a stream that was authorized.
    return []
