"""Jobs that came together under one lease, by column; a `Job` is made where one is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import TypeVar

from spooled_pipelines.rpc.decode import NO_SCHEMAS
from spooled_pipelines.rpc.struct import from_struct
from spooled_pipelines.types import Job, JobStatus, RowSchema
from spooled_pipelines.wire import batch_v1
from spooled_pipelines.wire.well_known import Struct
from spooled_pipelines.worker.jobs.context import JobContext

T = TypeVar("T")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class LeasedChunk:
    """A chunk as the server sent it.

    Attributes:
        payloads: a serialized Struct for each job, as it was stored.
        payload_bytes: the size of all of them.
        held: how many of the jobs this worker still has.
        run_alone: whether any of its jobs may have killed its worker.
        schemas: the types of the table that each job came from, as far as they are known.
    """

    def __init__(
        self,
        message: batch_v1.LeasedChunk,
        worker_id: str,
        schemas: Mapping[int, RowSchema] = NO_SCHEMAS,
    ) -> None:
        self.queue_name = message.queue_name
        self.lease_id = message.lease_id
        self.worker_id = worker_id
        self.job_ids: list[str] = list(message.job_ids)
        self.payloads: list[bytes] = list(message.payloads)
        self.payload_bytes = sum(map(len, self.payloads))
        self.held = len(self.job_ids)
        self.run_alone = message.run_alone
        self.retry_counts = self._column(message.retry_counts, 0)
        self.timeout_seconds = self._column(message.timeout_seconds, 0)
        self._deliveries = self._column(message.deliveries, 0)
        # What all the jobs have in common, which is nothing but these fields.
        self._common = vars(
            Job(
                id="",
                queue_name=message.queue_name,
                status=JobStatus.PROCESSING,
                payload={},
                organization_id=message.organization_id,
                started_at=message.started_at.ToDatetime(timezone.utc),
                lease_expires_at=message.lease_expires_at.ToDatetime(timezone.utc),
                assigned_worker_id=worker_id,
                lease_id=message.lease_id,
                run_alone=message.run_alone,
            )
        )
        self._max_retries = self._column(message.max_retries, 0)
        self._priorities = self._column(message.priorities, 0)
        self._created_at = self._column(message.created_at, 0)
        self._scheduled_at = self._column(message.scheduled_at, 0)
        self._keys = self._column(message.idempotency_keys, "")
        self._errors = self._column(message.last_errors, "")
        self._traceparents = self._column(message.traceparents, "")
        self._tracestates = self._column(message.tracestates, "")
        self.schemas = self._column([schemas.get(each) for each in message.schema_ids], None)

    def __len__(self) -> int:
        return len(self.job_ids)

    def job(self, index: int) -> Job:
        """Return one of the jobs."""
        job = Job.__new__(Job)
        # Not by `__init__`, which sets 21 fields one by one and takes as long as the payload.
        vars(job).update(
            self._common,
            id=self.job_ids[index],
            payload=from_struct(Struct.FromString(self.payloads[index])),
            retry_count=self.retry_counts[index],
            max_retries=self._max_retries[index],
            deliveries=self._deliveries[index],
            last_error=self._errors[index] or None,
            priority=self._priorities[index],
            timeout_seconds=self.timeout_seconds[index],
            created_at=_moment(self._created_at[index]),
            scheduled_at=_moment(self._scheduled_at[index]),
            idempotency_key=self._keys[index] or None,
            traceparent=self._traceparents[index] or None,
            tracestate=self._tracestates[index] or None,
            schema=self.schemas[index],
        )
        return job

    def part(self, indexes: Sequence[int]) -> LeasedChunk:
        """Return a chunk of some of the jobs."""
        part = LeasedChunk.__new__(LeasedChunk)
        for name, value in vars(self).items():
            is_column = isinstance(value, list)
            setattr(part, name, [value[index] for index in indexes] if is_column else value)
        return part

    def _column(self, values: Sequence[T], empty: T) -> Sequence[T]:
        """Return a value for each job; the message has none, one for all, or one for each."""
        if len(values) > 1:
            return list(values)
        return [values[0] if values else empty] * len(self.job_ids)


class ChunkJobContext(JobContext):
    """A run of one of a chunk's jobs, which is decoded when it is looked at."""

    __slots__ = ("chunk", "index")

    def __init__(self, chunk: LeasedChunk, index: int) -> None:
        self.chunk = chunk
        self.index = index
        self._job = None
        self._cancelled = False

    @property
    def job(self) -> Job:
        """The job that is run."""
        if self._job is None:
            self._job = self.chunk.job(self.index)
        return self._job

    @property
    def run_id(self) -> tuple[str, str | None]:
        """What names this run of this job, and no other."""
        return self.chunk.job_ids[self.index], self.chunk.lease_id

    @property
    def payload_bytes(self) -> bytes:
        """The payload as a serialized Struct."""
        return self.chunk.payloads[self.index]

    @property
    def schema(self) -> RowSchema | None:
        """The types of the table that the job came from, as far as they are known."""
        return self.chunk.schemas[self.index]


# Jobs of one upload were made at the same time.
@lru_cache(maxsize=256)
def _moment(milliseconds: int) -> datetime | None:
    return _EPOCH + timedelta(milliseconds=milliseconds) if milliseconds else None
