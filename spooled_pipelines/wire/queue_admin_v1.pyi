# Made from proto/spooled_pipelines/v1/queue_admin.proto by scripts/build_wire.py (`make generate`): change that, not this.
import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from spooled_pipelines.wire import spooled_v1 as _spooled_pb2
from spooled_pipelines.wire import batch_v1 as _batch_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PauseQueueRequest(_message.Message):
    __slots__ = ("queue_name", "request_id")
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    queue_name: str
    request_id: str
    def __init__(self, queue_name: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class PauseQueueResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeQueueRequest(_message.Message):
    __slots__ = ("queue_name", "request_id")
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    queue_name: str
    request_id: str
    def __init__(self, queue_name: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class ResumeQueueResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PurgeQueueRequest(_message.Message):
    __slots__ = ("queue_name", "request_id")
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    queue_name: str
    request_id: str
    def __init__(self, queue_name: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class PurgeQueueResponse(_message.Message):
    __slots__ = ("cancelled",)
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    cancelled: int
    def __init__(self, cancelled: _Optional[int] = ...) -> None: ...

class RenameQueueRequest(_message.Message):
    __slots__ = ("queue_name", "new_name", "request_id")
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    NEW_NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    queue_name: str
    new_name: str
    request_id: str
    def __init__(self, queue_name: _Optional[str] = ..., new_name: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RenameQueueResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListDeadLettersRequest(_message.Message):
    __slots__ = ("queue_name", "page_size", "page_token")
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    queue_name: str
    page_size: int
    page_token: str
    def __init__(self, queue_name: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDeadLettersResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[_spooled_pb2.Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[_spooled_pb2.Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RedriveDeadLettersRequest(_message.Message):
    __slots__ = ("queue_name", "error_contains", "request_id")
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    ERROR_CONTAINS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    queue_name: str
    error_contains: str
    request_id: str
    def __init__(self, queue_name: _Optional[str] = ..., error_contains: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RedriveDeadLettersResponse(_message.Message):
    __slots__ = ("redriven",)
    REDRIVEN_FIELD_NUMBER: _ClassVar[int]
    redriven: int
    def __init__(self, redriven: _Optional[int] = ...) -> None: ...

class QueueLimits(_message.Message):
    __slots__ = ("jobs_per_second", "burst", "max_in_flight")
    JOBS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    BURST_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    jobs_per_second: float
    burst: int
    max_in_flight: int
    def __init__(self, jobs_per_second: _Optional[float] = ..., burst: _Optional[int] = ..., max_in_flight: _Optional[int] = ...) -> None: ...

class SetQueueLimitsRequest(_message.Message):
    __slots__ = ("queue_name", "limits", "request_id")
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    queue_name: str
    limits: QueueLimits
    request_id: str
    def __init__(self, queue_name: _Optional[str] = ..., limits: _Optional[_Union[QueueLimits, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class SetQueueLimitsResponse(_message.Message):
    __slots__ = ("limits",)
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    limits: QueueLimits
    def __init__(self, limits: _Optional[_Union[QueueLimits, _Mapping]] = ...) -> None: ...

class GetQueueLimitsRequest(_message.Message):
    __slots__ = ("queue_name",)
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    queue_name: str
    def __init__(self, queue_name: _Optional[str] = ...) -> None: ...

class GetQueueLimitsResponse(_message.Message):
    __slots__ = ("limits", "paused", "throttle")
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    THROTTLE_FIELD_NUMBER: _ClassVar[int]
    limits: QueueLimits
    paused: bool
    throttle: QueueThrottle
    def __init__(self, limits: _Optional[_Union[QueueLimits, _Mapping]] = ..., paused: _Optional[bool] = ..., throttle: _Optional[_Union[QueueThrottle, _Mapping]] = ...) -> None: ...

class ListQueuesRequest(_message.Message):
    __slots__ = ("queue_name", "page_size", "page_token")
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    queue_name: str
    page_size: int
    page_token: str
    def __init__(self, queue_name: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListQueuesResponse(_message.Message):
    __slots__ = ("queues", "next_page_token")
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    queues: _containers.RepeatedCompositeFieldContainer[Queue]
    next_page_token: str
    def __init__(self, queues: _Optional[_Iterable[_Union[Queue, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Queue(_message.Message):
    __slots__ = ("stats", "waiting", "cancelled", "paused", "limits", "waiting_errors", "throttle", "expired")
    STATS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    WAITING_ERRORS_FIELD_NUMBER: _ClassVar[int]
    THROTTLE_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    stats: _spooled_pb2.GetQueueStatsResponse
    waiting: int
    cancelled: int
    paused: bool
    limits: QueueLimits
    waiting_errors: _containers.RepeatedCompositeFieldContainer[_batch_pb2.WaitingError]
    throttle: QueueThrottle
    expired: int
    def __init__(self, stats: _Optional[_Union[_spooled_pb2.GetQueueStatsResponse, _Mapping]] = ..., waiting: _Optional[int] = ..., cancelled: _Optional[int] = ..., paused: _Optional[bool] = ..., limits: _Optional[_Union[QueueLimits, _Mapping]] = ..., waiting_errors: _Optional[_Iterable[_Union[_batch_pb2.WaitingError, _Mapping]]] = ..., throttle: _Optional[_Union[QueueThrottle, _Mapping]] = ..., expired: _Optional[int] = ...) -> None: ...

class QueueThrottle(_message.Message):
    __slots__ = ("jobs_per_second", "since", "held_until")
    JOBS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    HELD_UNTIL_FIELD_NUMBER: _ClassVar[int]
    jobs_per_second: float
    since: _timestamp_pb2.Timestamp
    held_until: _timestamp_pb2.Timestamp
    def __init__(self, jobs_per_second: _Optional[float] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., held_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("queue_name", "statuses", "waiting", "text", "created_since", "created_before", "page_size", "page_token")
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CREATED_SINCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    queue_name: str
    statuses: _containers.RepeatedScalarFieldContainer[_spooled_pb2.JobStatus]
    waiting: bool
    text: str
    created_since: _timestamp_pb2.Timestamp
    created_before: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    def __init__(self, queue_name: _Optional[str] = ..., statuses: _Optional[_Iterable[_Union[_spooled_pb2.JobStatus, str]]] = ..., waiting: _Optional[bool] = ..., text: _Optional[str] = ..., created_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., created_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[ListedJob]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[ListedJob, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListedJob(_message.Message):
    __slots__ = ("job", "due_at")
    JOB_FIELD_NUMBER: _ClassVar[int]
    DUE_AT_FIELD_NUMBER: _ClassVar[int]
    job: _spooled_pb2.Job
    due_at: _timestamp_pb2.Timestamp
    def __init__(self, job: _Optional[_Union[_spooled_pb2.Job, _Mapping]] = ..., due_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListWorkersRequest(_message.Message):
    __slots__ = ("queue_name", "page_size")
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    queue_name: str
    page_size: int
    def __init__(self, queue_name: _Optional[str] = ..., page_size: _Optional[int] = ...) -> None: ...

class ListWorkersResponse(_message.Message):
    __slots__ = ("workers",)
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    workers: _containers.RepeatedCompositeFieldContainer[Worker]
    def __init__(self, workers: _Optional[_Iterable[_Union[Worker, _Mapping]]] = ...) -> None: ...

class Worker(_message.Message):
    __slots__ = ("worker_id", "queue_name", "hostname", "worker_type", "version", "max_concurrency", "current_jobs", "status", "registered_at", "seen_at", "offline")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    WORKER_TYPE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    CURRENT_JOBS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_AT_FIELD_NUMBER: _ClassVar[int]
    SEEN_AT_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    queue_name: str
    hostname: str
    worker_type: str
    version: str
    max_concurrency: int
    current_jobs: int
    status: str
    registered_at: _timestamp_pb2.Timestamp
    seen_at: _timestamp_pb2.Timestamp
    offline: bool
    def __init__(self, worker_id: _Optional[str] = ..., queue_name: _Optional[str] = ..., hostname: _Optional[str] = ..., worker_type: _Optional[str] = ..., version: _Optional[str] = ..., max_concurrency: _Optional[int] = ..., current_jobs: _Optional[int] = ..., status: _Optional[str] = ..., registered_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., seen_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., offline: _Optional[bool] = ...) -> None: ...
