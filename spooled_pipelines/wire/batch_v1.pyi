# Made from proto/spooled_pipelines/v1/batch.proto by scripts/build_wire.py (`make generate`): change that, not this.
import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from spooled_pipelines.wire import spooled_v1 as _spooled_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OnChanged(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_CHANGED_KEEP: _ClassVar[OnChanged]
    ON_CHANGED_REPLACE: _ClassVar[OnChanged]
    ON_CHANGED_REPLACE_RETRIABLE: _ClassVar[OnChanged]
ON_CHANGED_KEEP: OnChanged
ON_CHANGED_REPLACE: OnChanged
ON_CHANGED_REPLACE_RETRIABLE: OnChanged

class EnqueueJobRequest(_message.Message):
    __slots__ = ("job", "retry_backoff", "expires_at")
    JOB_FIELD_NUMBER: _ClassVar[int]
    RETRY_BACKOFF_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    job: _spooled_pb2.EnqueueRequest
    retry_backoff: str
    expires_at: _timestamp_pb2.Timestamp
    def __init__(self, job: _Optional[_Union[_spooled_pb2.EnqueueRequest, _Mapping]] = ..., retry_backoff: _Optional[str] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class EnqueueBatchRequest(_message.Message):
    __slots__ = ("open", "chunk")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    open: OpenBatch
    chunk: JobChunk
    def __init__(self, open: _Optional[_Union[OpenBatch, _Mapping]] = ..., chunk: _Optional[_Union[JobChunk, _Mapping]] = ...) -> None: ...

class OpenBatch(_message.Message):
    __slots__ = ("batch_id", "queue_name", "name", "upload_id", "priority", "max_retries", "timeout_seconds", "tags", "generation", "part_id", "cancel_older", "on_changed", "rows_id", "made_by", "retry_backoff", "expires_at", "payload_schema", "weight", "fair_by", "limit_by", "limit_per_key", "key_name")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    MAX_RETRIES_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    CANCEL_OLDER_FIELD_NUMBER: _ClassVar[int]
    ON_CHANGED_FIELD_NUMBER: _ClassVar[int]
    ROWS_ID_FIELD_NUMBER: _ClassVar[int]
    MADE_BY_FIELD_NUMBER: _ClassVar[int]
    RETRY_BACKOFF_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    FAIR_BY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_BY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_PER_KEY_FIELD_NUMBER: _ClassVar[int]
    KEY_NAME_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    queue_name: str
    name: str
    upload_id: str
    priority: int
    max_retries: int
    timeout_seconds: int
    tags: _containers.ScalarMap[str, str]
    generation: int
    part_id: str
    cancel_older: bool
    on_changed: OnChanged
    rows_id: str
    made_by: str
    retry_backoff: str
    expires_at: _timestamp_pb2.Timestamp
    payload_schema: bytes
    weight: int
    fair_by: str
    limit_by: str
    limit_per_key: int
    key_name: str
    def __init__(self, batch_id: _Optional[str] = ..., queue_name: _Optional[str] = ..., name: _Optional[str] = ..., upload_id: _Optional[str] = ..., priority: _Optional[int] = ..., max_retries: _Optional[int] = ..., timeout_seconds: _Optional[int] = ..., tags: _Optional[_Mapping[str, str]] = ..., generation: _Optional[int] = ..., part_id: _Optional[str] = ..., cancel_older: _Optional[bool] = ..., on_changed: _Optional[_Union[OnChanged, str]] = ..., rows_id: _Optional[str] = ..., made_by: _Optional[str] = ..., retry_backoff: _Optional[str] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., payload_schema: _Optional[bytes] = ..., weight: _Optional[int] = ..., fair_by: _Optional[str] = ..., limit_by: _Optional[str] = ..., limit_per_key: _Optional[int] = ..., key_name: _Optional[str] = ...) -> None: ...

class JobChunk(_message.Message):
    __slots__ = ("payloads", "priorities", "max_retries", "timeout_seconds", "scheduled_at", "idempotency_keys", "tags", "number", "retry_backoffs", "fair_keys", "expires_at", "limit_keys")
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    PRIORITIES_FIELD_NUMBER: _ClassVar[int]
    MAX_RETRIES_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULED_AT_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEYS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    RETRY_BACKOFFS_FIELD_NUMBER: _ClassVar[int]
    FAIR_KEYS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_KEYS_FIELD_NUMBER: _ClassVar[int]
    payloads: _containers.RepeatedScalarFieldContainer[bytes]
    priorities: _containers.RepeatedScalarFieldContainer[int]
    max_retries: _containers.RepeatedScalarFieldContainer[int]
    timeout_seconds: _containers.RepeatedScalarFieldContainer[int]
    scheduled_at: _containers.RepeatedCompositeFieldContainer[_timestamp_pb2.Timestamp]
    idempotency_keys: _containers.RepeatedScalarFieldContainer[str]
    tags: _containers.RepeatedCompositeFieldContainer[Tags]
    number: int
    retry_backoffs: _containers.RepeatedScalarFieldContainer[str]
    fair_keys: _containers.RepeatedScalarFieldContainer[str]
    expires_at: _containers.RepeatedCompositeFieldContainer[_timestamp_pb2.Timestamp]
    limit_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, payloads: _Optional[_Iterable[bytes]] = ..., priorities: _Optional[_Iterable[int]] = ..., max_retries: _Optional[_Iterable[int]] = ..., timeout_seconds: _Optional[_Iterable[int]] = ..., scheduled_at: _Optional[_Iterable[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]]] = ..., idempotency_keys: _Optional[_Iterable[str]] = ..., tags: _Optional[_Iterable[_Union[Tags, _Mapping]]] = ..., number: _Optional[int] = ..., retry_backoffs: _Optional[_Iterable[str]] = ..., fair_keys: _Optional[_Iterable[str]] = ..., expires_at: _Optional[_Iterable[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]]] = ..., limit_keys: _Optional[_Iterable[str]] = ...) -> None: ...

class Tags(_message.Message):
    __slots__ = ("tags",)
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TAGS_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.ScalarMap[str, str]
    def __init__(self, tags: _Optional[_Mapping[str, str]] = ...) -> None: ...

class EnqueueBatchResponse(_message.Message):
    __slots__ = ("opened", "outcome", "stored")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    opened: BatchStats
    outcome: ChunkOutcome
    stored: _containers.RepeatedCompositeFieldContainer[ChunkRange]
    def __init__(self, opened: _Optional[_Union[BatchStats, _Mapping]] = ..., outcome: _Optional[_Union[ChunkOutcome, _Mapping]] = ..., stored: _Optional[_Iterable[_Union[ChunkRange, _Mapping]]] = ...) -> None: ...

class ChunkRange(_message.Message):
    __slots__ = ("first", "last")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ...) -> None: ...

class ChunkOutcome(_message.Message):
    __slots__ = ("number", "created", "duplicates", "job_ids", "duplicate_rows", "rejected", "changed_rows", "replaced_rows")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_ROWS_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_ROWS_FIELD_NUMBER: _ClassVar[int]
    REPLACED_ROWS_FIELD_NUMBER: _ClassVar[int]
    number: int
    created: int
    duplicates: int
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    duplicate_rows: _containers.RepeatedScalarFieldContainer[int]
    rejected: _containers.RepeatedCompositeFieldContainer[RejectedRow]
    changed_rows: _containers.RepeatedScalarFieldContainer[int]
    replaced_rows: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, number: _Optional[int] = ..., created: _Optional[int] = ..., duplicates: _Optional[int] = ..., job_ids: _Optional[_Iterable[str]] = ..., duplicate_rows: _Optional[_Iterable[int]] = ..., rejected: _Optional[_Iterable[_Union[RejectedRow, _Mapping]]] = ..., changed_rows: _Optional[_Iterable[int]] = ..., replaced_rows: _Optional[_Iterable[int]] = ...) -> None: ...

class RejectedRow(_message.Message):
    __slots__ = ("row", "code", "message")
    ROW_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    row: int
    code: str
    message: str
    def __init__(self, row: _Optional[int] = ..., code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class SealBatchRequest(_message.Message):
    __slots__ = ("batch_id", "generation", "expected_parts", "part_ids", "rows_id")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_PARTS_FIELD_NUMBER: _ClassVar[int]
    PART_IDS_FIELD_NUMBER: _ClassVar[int]
    ROWS_ID_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    generation: int
    expected_parts: int
    part_ids: _containers.RepeatedScalarFieldContainer[str]
    rows_id: str
    def __init__(self, batch_id: _Optional[str] = ..., generation: _Optional[int] = ..., expected_parts: _Optional[int] = ..., part_ids: _Optional[_Iterable[str]] = ..., rows_id: _Optional[str] = ...) -> None: ...

class SealBatchResponse(_message.Message):
    __slots__ = ("stats",)
    STATS_FIELD_NUMBER: _ClassVar[int]
    stats: BatchStats
    def __init__(self, stats: _Optional[_Union[BatchStats, _Mapping]] = ...) -> None: ...

class FinishPartRequest(_message.Message):
    __slots__ = ("batch_id", "generation", "part_id", "rows", "rows_id")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ROWS_ID_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    generation: int
    part_id: str
    rows: int
    rows_id: str
    def __init__(self, batch_id: _Optional[str] = ..., generation: _Optional[int] = ..., part_id: _Optional[str] = ..., rows: _Optional[int] = ..., rows_id: _Optional[str] = ...) -> None: ...

class FinishPartResponse(_message.Message):
    __slots__ = ("part",)
    PART_FIELD_NUMBER: _ClassVar[int]
    part: BatchPart
    def __init__(self, part: _Optional[_Union[BatchPart, _Mapping]] = ...) -> None: ...

class GetPayloadSchemaRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class GetPayloadSchemaResponse(_message.Message):
    __slots__ = ("schema_id", "schema")
    SCHEMA_ID_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    schema_id: int
    schema: bytes
    def __init__(self, schema_id: _Optional[int] = ..., schema: _Optional[bytes] = ...) -> None: ...

class GetResultSchemaRequest(_message.Message):
    __slots__ = ("batch_id",)
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    def __init__(self, batch_id: _Optional[str] = ...) -> None: ...

class GetResultSchemaResponse(_message.Message):
    __slots__ = ("schema",)
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    schema: bytes
    def __init__(self, schema: _Optional[bytes] = ...) -> None: ...

class KeepResultSchemaRequest(_message.Message):
    __slots__ = ("job_id", "schema")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    schema: bytes
    def __init__(self, job_id: _Optional[str] = ..., schema: _Optional[bytes] = ...) -> None: ...

class KeepResultSchemaResponse(_message.Message):
    __slots__ = ("schema",)
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    schema: bytes
    def __init__(self, schema: _Optional[bytes] = ...) -> None: ...

class ListPartsRequest(_message.Message):
    __slots__ = ("batch_id",)
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    def __init__(self, batch_id: _Optional[str] = ...) -> None: ...

class ListPartsResponse(_message.Message):
    __slots__ = ("parts",)
    PARTS_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.RepeatedCompositeFieldContainer[BatchPart]
    def __init__(self, parts: _Optional[_Iterable[_Union[BatchPart, _Mapping]]] = ...) -> None: ...

class BatchPart(_message.Message):
    __slots__ = ("part_id", "finished", "rows")
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    part_id: str
    finished: bool
    rows: int
    def __init__(self, part_id: _Optional[str] = ..., finished: _Optional[bool] = ..., rows: _Optional[int] = ...) -> None: ...

class GetBatchStatsRequest(_message.Message):
    __slots__ = ("batch_ids",)
    BATCH_IDS_FIELD_NUMBER: _ClassVar[int]
    batch_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, batch_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class GetBatchStatsResponse(_message.Message):
    __slots__ = ("batches", "server_time")
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[BatchStats]
    server_time: _timestamp_pb2.Timestamp
    def __init__(self, batches: _Optional[_Iterable[_Union[BatchStats, _Mapping]]] = ..., server_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class WatchBatchRequest(_message.Message):
    __slots__ = ("batch_ids", "milestones")
    BATCH_IDS_FIELD_NUMBER: _ClassVar[int]
    MILESTONES_FIELD_NUMBER: _ClassVar[int]
    batch_ids: _containers.RepeatedScalarFieldContainer[str]
    milestones: bool
    def __init__(self, batch_ids: _Optional[_Iterable[str]] = ..., milestones: _Optional[bool] = ...) -> None: ...

class BatchStats(_message.Message):
    __slots__ = ("batch_id", "queue_name", "name", "sealed", "settled", "total", "pending", "scheduled", "processing", "completed", "deadletter", "cancelled", "created_at", "changed_at", "stalls", "top_errors", "generation", "changed", "replaced", "made_by", "waiting", "waiting_errors", "expired")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    SCHEDULED_FIELD_NUMBER: _ClassVar[int]
    PROCESSING_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    DEADLETTER_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_FIELD_NUMBER: _ClassVar[int]
    STALLS_FIELD_NUMBER: _ClassVar[int]
    TOP_ERRORS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    MADE_BY_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    WAITING_ERRORS_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    queue_name: str
    name: str
    sealed: bool
    settled: bool
    total: int
    pending: int
    scheduled: int
    processing: int
    completed: int
    deadletter: int
    cancelled: int
    created_at: _timestamp_pb2.Timestamp
    changed_at: _timestamp_pb2.Timestamp
    stalls: _containers.RepeatedCompositeFieldContainer[Stall]
    top_errors: _containers.RepeatedCompositeFieldContainer[ErrorCount]
    generation: int
    changed: int
    replaced: int
    made_by: str
    waiting: int
    waiting_errors: _containers.RepeatedCompositeFieldContainer[WaitingError]
    expired: int
    def __init__(self, batch_id: _Optional[str] = ..., queue_name: _Optional[str] = ..., name: _Optional[str] = ..., sealed: _Optional[bool] = ..., settled: _Optional[bool] = ..., total: _Optional[int] = ..., pending: _Optional[int] = ..., scheduled: _Optional[int] = ..., processing: _Optional[int] = ..., completed: _Optional[int] = ..., deadletter: _Optional[int] = ..., cancelled: _Optional[int] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., changed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stalls: _Optional[_Iterable[_Union[Stall, _Mapping]]] = ..., top_errors: _Optional[_Iterable[_Union[ErrorCount, _Mapping]]] = ..., generation: _Optional[int] = ..., changed: _Optional[int] = ..., replaced: _Optional[int] = ..., made_by: _Optional[str] = ..., waiting: _Optional[int] = ..., waiting_errors: _Optional[_Iterable[_Union[WaitingError, _Mapping]]] = ..., expired: _Optional[int] = ...) -> None: ...

class WaitingError(_message.Message):
    __slots__ = ("error", "count", "next_at")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    NEXT_AT_FIELD_NUMBER: _ClassVar[int]
    error: str
    count: int
    next_at: _timestamp_pb2.Timestamp
    def __init__(self, error: _Optional[str] = ..., count: _Optional[int] = ..., next_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Stall(_message.Message):
    __slots__ = ("cause", "message")
    class Cause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CAUSE_UNSPECIFIED: _ClassVar[Stall.Cause]
        CAUSE_NOT_SEALED: _ClassVar[Stall.Cause]
        CAUSE_NO_WORKER: _ClassVar[Stall.Cause]
        CAUSE_ALL_DUE_LATER: _ClassVar[Stall.Cause]
        CAUSE_LEASES_EXPIRING: _ClassVar[Stall.Cause]
        CAUSE_QUEUE_PAUSED: _ClassVar[Stall.Cause]
        CAUSE_LIMITED: _ClassVar[Stall.Cause]
        CAUSE_BEHIND: _ClassVar[Stall.Cause]
    CAUSE_UNSPECIFIED: Stall.Cause
    CAUSE_NOT_SEALED: Stall.Cause
    CAUSE_NO_WORKER: Stall.Cause
    CAUSE_ALL_DUE_LATER: Stall.Cause
    CAUSE_LEASES_EXPIRING: Stall.Cause
    CAUSE_QUEUE_PAUSED: Stall.Cause
    CAUSE_LIMITED: Stall.Cause
    CAUSE_BEHIND: Stall.Cause
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    cause: Stall.Cause
    message: str
    def __init__(self, cause: _Optional[_Union[Stall.Cause, str]] = ..., message: _Optional[str] = ...) -> None: ...

class ErrorCount(_message.Message):
    __slots__ = ("error", "count")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    error: str
    count: int
    def __init__(self, error: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class ListBatchJobsRequest(_message.Message):
    __slots__ = ("batch_id", "statuses", "page_token", "omit_payload", "by_column")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    OMIT_PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    BY_COLUMN_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    statuses: _containers.RepeatedScalarFieldContainer[_spooled_pb2.JobStatus]
    page_token: str
    omit_payload: bool
    by_column: bool
    def __init__(self, batch_id: _Optional[str] = ..., statuses: _Optional[_Iterable[_Union[_spooled_pb2.JobStatus, str]]] = ..., page_token: _Optional[str] = ..., omit_payload: _Optional[bool] = ..., by_column: _Optional[bool] = ...) -> None: ...

class ListBatchJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token", "columns")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[_spooled_pb2.Job]
    next_page_token: str
    columns: JobColumns
    def __init__(self, jobs: _Optional[_Iterable[_Union[_spooled_pb2.Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., columns: _Optional[_Union[JobColumns, _Mapping]] = ...) -> None: ...

class JobColumns(_message.Message):
    __slots__ = ("job_ids", "statuses", "completed_at", "last_errors", "results", "payloads", "schema_ids", "places")
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_ERRORS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_IDS_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    statuses: _containers.RepeatedScalarFieldContainer[_spooled_pb2.JobStatus]
    completed_at: _containers.RepeatedScalarFieldContainer[int]
    last_errors: _containers.RepeatedScalarFieldContainer[str]
    results: _containers.RepeatedScalarFieldContainer[bytes]
    payloads: _containers.RepeatedScalarFieldContainer[bytes]
    schema_ids: _containers.RepeatedScalarFieldContainer[int]
    places: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, job_ids: _Optional[_Iterable[str]] = ..., statuses: _Optional[_Iterable[_Union[_spooled_pb2.JobStatus, str]]] = ..., completed_at: _Optional[_Iterable[int]] = ..., last_errors: _Optional[_Iterable[str]] = ..., results: _Optional[_Iterable[bytes]] = ..., payloads: _Optional[_Iterable[bytes]] = ..., schema_ids: _Optional[_Iterable[int]] = ..., places: _Optional[_Iterable[int]] = ...) -> None: ...

class CancelBatchRequest(_message.Message):
    __slots__ = ("batch_id", "generation", "request_id")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    generation: int
    request_id: str
    def __init__(self, batch_id: _Optional[str] = ..., generation: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class CancelBatchResponse(_message.Message):
    __slots__ = ("cancelled", "running", "done")
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    cancelled: int
    running: int
    done: int
    def __init__(self, cancelled: _Optional[int] = ..., running: _Optional[int] = ..., done: _Optional[int] = ...) -> None: ...

class RetryBatchRequest(_message.Message):
    __slots__ = ("batch_id", "error_contains", "cancelled", "request_id")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_CONTAINS_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    error_contains: str
    cancelled: bool
    request_id: str
    def __init__(self, batch_id: _Optional[str] = ..., error_contains: _Optional[str] = ..., cancelled: _Optional[bool] = ..., request_id: _Optional[str] = ...) -> None: ...

class RetryBatchResponse(_message.Message):
    __slots__ = ("retried", "stripped", "stripped_job_ids")
    RETRIED_FIELD_NUMBER: _ClassVar[int]
    STRIPPED_FIELD_NUMBER: _ClassVar[int]
    STRIPPED_JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    retried: int
    stripped: int
    stripped_job_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, retried: _Optional[int] = ..., stripped: _Optional[int] = ..., stripped_job_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ListAttemptsRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class ListAttemptsResponse(_message.Message):
    __slots__ = ("attempts",)
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    def __init__(self, attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("number", "worker_id", "started_at", "ended_at", "error", "ending", "exit_code")
    class Ending(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ENDING_UNSPECIFIED: _ClassVar[Attempt.Ending]
        ENDING_COMPLETED: _ClassVar[Attempt.Ending]
        ENDING_FAILED: _ClassVar[Attempt.Ending]
        ENDING_GIVEN_BACK: _ClassVar[Attempt.Ending]
        ENDING_LOST: _ClassVar[Attempt.Ending]
        ENDING_WORKER_DIED: _ClassVar[Attempt.Ending]
    ENDING_UNSPECIFIED: Attempt.Ending
    ENDING_COMPLETED: Attempt.Ending
    ENDING_FAILED: Attempt.Ending
    ENDING_GIVEN_BACK: Attempt.Ending
    ENDING_LOST: Attempt.Ending
    ENDING_WORKER_DIED: Attempt.Ending
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ENDING_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    number: int
    worker_id: str
    started_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    error: str
    ending: Attempt.Ending
    exit_code: int
    def __init__(self, number: _Optional[int] = ..., worker_id: _Optional[str] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., error: _Optional[str] = ..., ending: _Optional[_Union[Attempt.Ending, str]] = ..., exit_code: _Optional[int] = ...) -> None: ...

class FindKeysRequest(_message.Message):
    __slots__ = ("queue_name", "idempotency_keys", "payloads")
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEYS_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    queue_name: str
    idempotency_keys: _containers.RepeatedScalarFieldContainer[str]
    payloads: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, queue_name: _Optional[str] = ..., idempotency_keys: _Optional[_Iterable[str]] = ..., payloads: _Optional[_Iterable[bytes]] = ...) -> None: ...

class FindKeysResponse(_message.Message):
    __slots__ = ("found", "changed", "key_name")
    FOUND_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    KEY_NAME_FIELD_NUMBER: _ClassVar[int]
    found: _containers.RepeatedScalarFieldContainer[int]
    changed: _containers.RepeatedScalarFieldContainer[int]
    key_name: str
    def __init__(self, found: _Optional[_Iterable[int]] = ..., changed: _Optional[_Iterable[int]] = ..., key_name: _Optional[str] = ...) -> None: ...

class ListBatchesRequest(_message.Message):
    __slots__ = ("queue_name", "page_size", "page_token", "text", "created_since", "created_before")
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CREATED_SINCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    queue_name: str
    page_size: int
    page_token: str
    text: str
    created_since: _timestamp_pb2.Timestamp
    created_before: _timestamp_pb2.Timestamp
    def __init__(self, queue_name: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., text: _Optional[str] = ..., created_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., created_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListBatchesResponse(_message.Message):
    __slots__ = ("batches", "next_page_token")
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[BatchStats]
    next_page_token: str
    def __init__(self, batches: _Optional[_Iterable[_Union[BatchStats, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class FindBatchJobsRequest(_message.Message):
    __slots__ = ("batch_id", "statuses", "text", "page_size", "page_token")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    statuses: _containers.RepeatedScalarFieldContainer[_spooled_pb2.JobStatus]
    text: str
    page_size: int
    page_token: str
    def __init__(self, batch_id: _Optional[str] = ..., statuses: _Optional[_Iterable[_Union[_spooled_pb2.JobStatus, str]]] = ..., text: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class FindBatchJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[_spooled_pb2.Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[_spooled_pb2.Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ClaimChunksRequest(_message.Message):
    __slots__ = ("queue_name", "worker_id", "lease_duration_secs", "max_jobs", "max_bytes", "lease_id", "unanswered")
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_DURATION_SECS_FIELD_NUMBER: _ClassVar[int]
    MAX_JOBS_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    UNANSWERED_FIELD_NUMBER: _ClassVar[int]
    queue_name: str
    worker_id: str
    lease_duration_secs: int
    max_jobs: int
    max_bytes: int
    lease_id: str
    unanswered: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, queue_name: _Optional[str] = ..., worker_id: _Optional[str] = ..., lease_duration_secs: _Optional[int] = ..., max_jobs: _Optional[int] = ..., max_bytes: _Optional[int] = ..., lease_id: _Optional[str] = ..., unanswered: _Optional[_Iterable[str]] = ...) -> None: ...

class ClaimChunksResponse(_message.Message):
    __slots__ = ("chunks",)
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    chunks: _containers.RepeatedCompositeFieldContainer[LeasedChunk]
    def __init__(self, chunks: _Optional[_Iterable[_Union[LeasedChunk, _Mapping]]] = ...) -> None: ...

class LeasedChunk(_message.Message):
    __slots__ = ("queue_name", "organization_id", "lease_id", "started_at", "lease_expires_at", "job_ids", "payloads", "retry_counts", "max_retries", "priorities", "timeout_seconds", "created_at", "scheduled_at", "idempotency_keys", "last_errors", "traceparents", "tracestates", "deliveries", "run_alone", "schema_ids")
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    ORGANIZATION_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    LEASE_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    RETRY_COUNTS_FIELD_NUMBER: _ClassVar[int]
    MAX_RETRIES_FIELD_NUMBER: _ClassVar[int]
    PRIORITIES_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    SCHEDULED_AT_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEYS_FIELD_NUMBER: _ClassVar[int]
    LAST_ERRORS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENTS_FIELD_NUMBER: _ClassVar[int]
    TRACESTATES_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    RUN_ALONE_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_IDS_FIELD_NUMBER: _ClassVar[int]
    queue_name: str
    organization_id: str
    lease_id: str
    started_at: _timestamp_pb2.Timestamp
    lease_expires_at: _timestamp_pb2.Timestamp
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    payloads: _containers.RepeatedScalarFieldContainer[bytes]
    retry_counts: _containers.RepeatedScalarFieldContainer[int]
    max_retries: _containers.RepeatedScalarFieldContainer[int]
    priorities: _containers.RepeatedScalarFieldContainer[int]
    timeout_seconds: _containers.RepeatedScalarFieldContainer[int]
    created_at: _containers.RepeatedScalarFieldContainer[int]
    scheduled_at: _containers.RepeatedScalarFieldContainer[int]
    idempotency_keys: _containers.RepeatedScalarFieldContainer[str]
    last_errors: _containers.RepeatedScalarFieldContainer[str]
    traceparents: _containers.RepeatedScalarFieldContainer[str]
    tracestates: _containers.RepeatedScalarFieldContainer[str]
    deliveries: _containers.RepeatedScalarFieldContainer[int]
    run_alone: bool
    schema_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, queue_name: _Optional[str] = ..., organization_id: _Optional[str] = ..., lease_id: _Optional[str] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., lease_expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., job_ids: _Optional[_Iterable[str]] = ..., payloads: _Optional[_Iterable[bytes]] = ..., retry_counts: _Optional[_Iterable[int]] = ..., max_retries: _Optional[_Iterable[int]] = ..., priorities: _Optional[_Iterable[int]] = ..., timeout_seconds: _Optional[_Iterable[int]] = ..., created_at: _Optional[_Iterable[int]] = ..., scheduled_at: _Optional[_Iterable[int]] = ..., idempotency_keys: _Optional[_Iterable[str]] = ..., last_errors: _Optional[_Iterable[str]] = ..., traceparents: _Optional[_Iterable[str]] = ..., tracestates: _Optional[_Iterable[str]] = ..., deliveries: _Optional[_Iterable[int]] = ..., run_alone: _Optional[bool] = ..., schema_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class RenewChunkRequest(_message.Message):
    __slots__ = ("queue_name", "worker_id", "lease_id", "job_ids", "extension_secs")
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    EXTENSION_SECS_FIELD_NUMBER: _ClassVar[int]
    queue_name: str
    worker_id: str
    lease_id: str
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    extension_secs: int
    def __init__(self, queue_name: _Optional[str] = ..., worker_id: _Optional[str] = ..., lease_id: _Optional[str] = ..., job_ids: _Optional[_Iterable[str]] = ..., extension_secs: _Optional[int] = ...) -> None: ...

class RenewChunkResponse(_message.Message):
    __slots__ = ("new_expires_at", "lost")
    NEW_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    new_expires_at: _timestamp_pb2.Timestamp
    lost: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, new_expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., lost: _Optional[_Iterable[int]] = ...) -> None: ...

class SettleRequest(_message.Message):
    __slots__ = ("outcomes", "chunks")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[JobOutcome]
    chunks: _containers.RepeatedCompositeFieldContainer[ChunkOutcomes]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[JobOutcome, _Mapping]]] = ..., chunks: _Optional[_Iterable[_Union[ChunkOutcomes, _Mapping]]] = ...) -> None: ...

class ChunkOutcomes(_message.Message):
    __slots__ = ("queue_name", "worker_id", "lease_id", "job_ids", "results", "without_result", "exceptions")
    QUEUE_NAME_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_RESULT_FIELD_NUMBER: _ClassVar[int]
    EXCEPTIONS_FIELD_NUMBER: _ClassVar[int]
    queue_name: str
    worker_id: str
    lease_id: str
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    results: _containers.RepeatedScalarFieldContainer[bytes]
    without_result: _containers.RepeatedScalarFieldContainer[int]
    exceptions: _containers.RepeatedCompositeFieldContainer[JobException]
    def __init__(self, queue_name: _Optional[str] = ..., worker_id: _Optional[str] = ..., lease_id: _Optional[str] = ..., job_ids: _Optional[_Iterable[str]] = ..., results: _Optional[_Iterable[bytes]] = ..., without_result: _Optional[_Iterable[int]] = ..., exceptions: _Optional[_Iterable[_Union[JobException, _Mapping]]] = ...) -> None: ...

class JobException(_message.Message):
    __slots__ = ("index", "failed", "returned", "died")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    RETURNED_FIELD_NUMBER: _ClassVar[int]
    DIED_FIELD_NUMBER: _ClassVar[int]
    index: int
    failed: Failure
    returned: Return
    died: Death
    def __init__(self, index: _Optional[int] = ..., failed: _Optional[_Union[Failure, _Mapping]] = ..., returned: _Optional[_Union[Return, _Mapping]] = ..., died: _Optional[_Union[Death, _Mapping]] = ...) -> None: ...

class JobOutcome(_message.Message):
    __slots__ = ("job_id", "worker_id", "lease_id", "completed", "failed", "returned", "died")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    RETURNED_FIELD_NUMBER: _ClassVar[int]
    DIED_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    worker_id: str
    lease_id: str
    completed: Completion
    failed: Failure
    returned: Return
    died: Death
    def __init__(self, job_id: _Optional[str] = ..., worker_id: _Optional[str] = ..., lease_id: _Optional[str] = ..., completed: _Optional[_Union[Completion, _Mapping]] = ..., failed: _Optional[_Union[Failure, _Mapping]] = ..., returned: _Optional[_Union[Return, _Mapping]] = ..., died: _Optional[_Union[Death, _Mapping]] = ...) -> None: ...

class Completion(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: bytes
    def __init__(self, result: _Optional[bytes] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("error", "final", "retry_delay_secs")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    RETRY_DELAY_SECS_FIELD_NUMBER: _ClassVar[int]
    error: str
    final: bool
    retry_delay_secs: int
    def __init__(self, error: _Optional[str] = ..., final: _Optional[bool] = ..., retry_delay_secs: _Optional[int] = ...) -> None: ...

class Return(_message.Message):
    __slots__ = ("begun", "after_ms", "throttles")
    BEGUN_FIELD_NUMBER: _ClassVar[int]
    AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    THROTTLES_FIELD_NUMBER: _ClassVar[int]
    begun: bool
    after_ms: int
    throttles: bool
    def __init__(self, begun: _Optional[bool] = ..., after_ms: _Optional[int] = ..., throttles: _Optional[bool] = ...) -> None: ...

class Death(_message.Message):
    __slots__ = ("error", "exit_code", "others")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    error: str
    exit_code: int
    others: int
    def __init__(self, error: _Optional[str] = ..., exit_code: _Optional[int] = ..., others: _Optional[int] = ...) -> None: ...

class ReportWorkerDeathRequest(_message.Message):
    __slots__ = ("worker_id", "error", "exit_code", "running")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    error: str
    exit_code: int
    running: RunningJobs
    def __init__(self, worker_id: _Optional[str] = ..., error: _Optional[str] = ..., exit_code: _Optional[int] = ..., running: _Optional[_Union[RunningJobs, _Mapping]] = ...) -> None: ...

class RunningJobs(_message.Message):
    __slots__ = ("job_ids",)
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ReportWorkerDeathResponse(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: int
    def __init__(self, jobs: _Optional[int] = ...) -> None: ...

class SettleResponse(_message.Message):
    __slots__ = ("settled", "chunks")
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    settled: _containers.RepeatedCompositeFieldContainer[JobSettled]
    chunks: _containers.RepeatedCompositeFieldContainer[ChunkSettled]
    def __init__(self, settled: _Optional[_Iterable[_Union[JobSettled, _Mapping]]] = ..., chunks: _Optional[_Iterable[_Union[ChunkSettled, _Mapping]]] = ...) -> None: ...

class ChunkSettled(_message.Message):
    __slots__ = ("exceptions",)
    EXCEPTIONS_FIELD_NUMBER: _ClassVar[int]
    exceptions: _containers.RepeatedCompositeFieldContainer[SettledException]
    def __init__(self, exceptions: _Optional[_Iterable[_Union[SettledException, _Mapping]]] = ...) -> None: ...

class SettledException(_message.Message):
    __slots__ = ("index", "settled")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    index: int
    settled: JobSettled
    def __init__(self, index: _Optional[int] = ..., settled: _Optional[_Union[JobSettled, _Mapping]] = ...) -> None: ...

class JobSettled(_message.Message):
    __slots__ = ("status", "next_retry_delay_secs", "code", "message")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    NEXT_RETRY_DELAY_SECS_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    status: _spooled_pb2.JobStatus
    next_retry_delay_secs: int
    code: str
    message: str
    def __init__(self, status: _Optional[_Union[_spooled_pb2.JobStatus, str]] = ..., next_retry_delay_secs: _Optional[int] = ..., code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class ReviseDeadLettersRequest(_message.Message):
    __slots__ = ("revisions",)
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    revisions: _containers.RepeatedCompositeFieldContainer[DeadLetterRevision]
    def __init__(self, revisions: _Optional[_Iterable[_Union[DeadLetterRevision, _Mapping]]] = ...) -> None: ...

class DeadLetterRevision(_message.Message):
    __slots__ = ("job_id", "requeue", "discard", "cancel")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEUE_FIELD_NUMBER: _ClassVar[int]
    DISCARD_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    requeue: Requeue
    discard: Discard
    cancel: CancelJob
    def __init__(self, job_id: _Optional[str] = ..., requeue: _Optional[_Union[Requeue, _Mapping]] = ..., discard: _Optional[_Union[Discard, _Mapping]] = ..., cancel: _Optional[_Union[CancelJob, _Mapping]] = ...) -> None: ...

class Requeue(_message.Message):
    __slots__ = ("payload",)
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    def __init__(self, payload: _Optional[bytes] = ...) -> None: ...

class Discard(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CancelJob(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReviseDeadLettersResponse(_message.Message):
    __slots__ = ("refused",)
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    refused: _containers.RepeatedCompositeFieldContainer[RejectedRow]
    def __init__(self, refused: _Optional[_Iterable[_Union[RejectedRow, _Mapping]]] = ...) -> None: ...
