"""Who may call what: the roles of each RPC, and by which field a request tells its queue.

Both tables are held against the descriptors when a server starts, so that neither a new RPC nor a
new message can be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from spooled_pipelines.wire.methods import Method


class Role(str, Enum):
    """What a key is for. Every role but `work` may read; `admin` may do everything."""

    PRODUCE = "produce"
    WORK = "work"
    READ = "read"
    ADMIN = "admin"


_ADMIN = frozenset({Role.ADMIN})
_PRODUCE = _ADMIN | {Role.PRODUCE}
_WORK = _ADMIN | {Role.WORK}
# Whoever enqueued a batch waits for it and reads its results.
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
    _BATCH + "ReviseDeadLetters": _PRODUCE,
    _QUEUE_ADMIN + "PauseQueue": _ADMIN,
    _QUEUE_ADMIN + "ResumeQueue": _ADMIN,
    _QUEUE_ADMIN + "PurgeQueue": _ADMIN,
    _QUEUE_ADMIN + "ListDeadLetters": _READ,
    _QUEUE_ADMIN + "RedriveDeadLetters": _ADMIN,
    _QUEUE_ADMIN + "SetQueueLimits": _ADMIN,
    _QUEUE_ADMIN + "GetQueueLimits": _ANY,
    _QUEUE_ADMIN + "ListQueues": _ANY,
    _QUEUE_ADMIN + "ListWorkers": _ANY,
    _KEY + "CreateKey": _ADMIN,
    _KEY + "ListKeys": _ADMIN,
    _KEY + "RevokeKey": _ADMIN,
}

# Whose page shows what is in jobs: a screen has more readers than the one who signed in, and who
# looks after the numbers alone need not have the data before their eyes. Over RPC a `read` key
# gets them, as the one who waits for results must.
SEES_PAYLOADS = _PRODUCE | {Role.WORK}


class Scope(Enum):
    """By what a request tells which queue it touches."""

    # Where it may be empty, the answer holds what is of the key's queues (`Caller.among`).
    QUEUE = "queue_name"
    JOB = "job_id"
    BATCH = "batch_id or batch_ids"
    WORKER = "worker_id, and queue_name where it has one"
    # An envelope: the message inside it tells.
    INSIDE = "its one message"
    # A part of what the stream's first message opened.
    OPENED = "the first message"
    # Of no queue: keys that are limited to some queues are refused.
    ORGANIZATION = "nothing"


_SPOOLED = "spooled.v1."
_OURS = "spooled_pipelines.v1."

QUEUE_OF_REQUEST: Mapping[str, Scope] = {
    _SPOOLED + "EnqueueRequest": Scope.QUEUE,
    _SPOOLED + "DequeueRequest": Scope.QUEUE,
    _SPOOLED + "CompleteRequest": Scope.JOB,
    _SPOOLED + "FailRequest": Scope.JOB,
    _SPOOLED + "RenewLeaseRequest": Scope.JOB,
    _SPOOLED + "GetJobRequest": Scope.JOB,
    _SPOOLED + "GetQueueStatsRequest": Scope.QUEUE,
    _SPOOLED + "StreamJobsRequest": Scope.QUEUE,
    _SPOOLED + "ProcessRequest": Scope.INSIDE,
    _SPOOLED + "SubscribeRequest": Scope.QUEUE,
    _SPOOLED + "RegisterWorkerRequest": Scope.WORKER,
    _SPOOLED + "HeartbeatRequest": Scope.WORKER,
    _SPOOLED + "DeregisterRequest": Scope.WORKER,
    _OURS + "EnqueueBatchRequest": Scope.INSIDE,
    _OURS + "OpenBatch": Scope.QUEUE,
    _OURS + "JobChunk": Scope.OPENED,
    _OURS + "SealBatchRequest": Scope.BATCH,
    _OURS + "FinishPartRequest": Scope.BATCH,
    _OURS + "ListPartsRequest": Scope.BATCH,
    _OURS + "GetBatchStatsRequest": Scope.BATCH,
    _OURS + "WatchBatchRequest": Scope.BATCH,
    _OURS + "ListBatchJobsRequest": Scope.BATCH,
    _OURS + "CancelBatchRequest": Scope.BATCH,
    _OURS + "RetryBatchRequest": Scope.BATCH,
    _OURS + "ListAttemptsRequest": Scope.JOB,
    _OURS + "FindKeysRequest": Scope.QUEUE,
    _OURS + "ListBatchesRequest": Scope.QUEUE,
    _OURS + "FindBatchJobsRequest": Scope.BATCH,
    _OURS + "SettleRequest": Scope.INSIDE,
    _OURS + "JobOutcome": Scope.JOB,
    _OURS + "ReviseDeadLettersRequest": Scope.INSIDE,
    _OURS + "DeadLetterRevision": Scope.JOB,
    _OURS + "PauseQueueRequest": Scope.QUEUE,
    _OURS + "ResumeQueueRequest": Scope.QUEUE,
    _OURS + "PurgeQueueRequest": Scope.QUEUE,
    _OURS + "ListDeadLettersRequest": Scope.QUEUE,
    _OURS + "RedriveDeadLettersRequest": Scope.QUEUE,
    _OURS + "SetQueueLimitsRequest": Scope.QUEUE,
    _OURS + "GetQueueLimitsRequest": Scope.QUEUE,
    _OURS + "ListQueuesRequest": Scope.QUEUE,
    _OURS + "ListWorkersRequest": Scope.QUEUE,
    _OURS + "CreateKeyRequest": Scope.ORGANIZATION,
    _OURS + "ListKeysRequest": Scope.ORGANIZATION,
    _OURS + "RevokeKeyRequest": Scope.ORGANIZATION,
}


def check_tables(methods: Iterable[Method]) -> None:
    """RuntimeError names what is not in the tables: RPCs without roles, requests without scope."""
    methods = tuple(methods)
    missing = [method.path for method in methods if method.path not in ROLES]
    for method in methods:
        missing += _without_scope(method.request_class.DESCRIPTOR)
    if missing:
        names = ", ".join(missing)
        raise RuntimeError(f"server/access.py does not say who may use {names}")


def _without_scope(message: Any) -> list[str]:
    scope = QUEUE_OF_REQUEST.get(message.full_name)
    if scope is None:
        return [message.full_name]
    if scope is not Scope.INSIDE:
        return []
    return [name for field in message.fields for name in _without_scope(field.message_type)]
