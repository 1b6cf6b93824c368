"""Plain values: what the clients return instead of protobuf messages."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

# A path or URI.
StrPath: TypeAlias = str | os.PathLike[str]


class JobStatus(str, Enum):
    """A job's status; compares equal to its lower-case name, such as ``"completed"``."""

    UNSPECIFIED = "unspecified"
    PENDING = "pending"
    SCHEDULED = "scheduled"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    DEADLETTER = "deadletter"
    CANCELLED = "cancelled"

    def __str__(self) -> str:
        return self.value

    @property
    def settled(self) -> bool:
        """Whether the job is completed, dead or cancelled, and stays so by itself."""
        return self in (JobStatus.COMPLETED, JobStatus.DEADLETTER, JobStatus.CANCELLED)


class RowSchema(Protocol):
    """The types that a payload's fields had in the table it came from.

    Attributes:
        arrow: the same as an Arrow schema.
        number: what the server calls it, which is another for each batch; 0: it is not known.
    """

    @property
    def number(self) -> int: ...

    @property
    def arrow(self) -> pa.Schema: ...

    def row(self, payload: Mapping[str, Any], /) -> dict[str, Any]:
        """Return the payload's values as what they were."""


@dataclass(frozen=True)
class Job:
    """A job as the server sees it. Times are aware, in UTC; None if they do not apply.

    Whole numbers in ``payload`` and ``result`` come as int, others as float: on the wire both
    are doubles. ``row`` has the payload's values as what they were. ``deliveries`` counts how often
    the job was handed out and begun; ``run_alone`` says that it may have killed its worker.
    ``traceparent`` and ``tracestate`` say, in a claimed job, where its enqueue was traced.
    ``due_at`` says, in a listed job, until when no worker gets it: it is scheduled, or waits for
    its next try.
    """

    id: str
    queue_name: str
    status: JobStatus
    payload: dict[str, Any] = field(repr=False)
    organization_id: str = ""
    result: dict[str, Any] | None = field(default=None, repr=False)
    retry_count: int = 0
    max_retries: int = 0
    deliveries: int = 0
    run_alone: bool = False
    last_error: str | None = None
    priority: int = 0
    timeout_seconds: int = 0
    created_at: datetime | None = None
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    lease_expires_at: datetime | None = None
    assigned_worker_id: str | None = None
    idempotency_key: str | None = None
    lease_id: str | None = field(default=None, repr=False)
    traceparent: str | None = None
    tracestate: str | None = None
    due_at: datetime | None = None
    schema: RowSchema | None = field(default=None, repr=False, compare=False)

    @cached_property
    def row(self) -> dict[str, Any]:
        """The payload's values as what they were in the table: times, Decimals, bytes, 3.0.

        The payload itself where the job did not come from a table, or the server does not have
        the batch extension.
        """
        return self.payload if self.schema is None else self.schema.row(self.payload)


@dataclass(frozen=True)
class EnqueueResult:
    """The job's id, and whether this call created it (False for a duplicate)."""

    job_id: str
    created: bool


@dataclass(frozen=True)
class FailResult:
    """The result of failing a job: it is retried after ``next_retry_delay`` seconds, or dead."""

    will_retry: bool
    next_retry_delay: int


@dataclass(frozen=True)
class QueueStats:
    """The number of a queue's jobs by status; ``max_age_ms`` is the age of the oldest pending."""

    queue_name: str
    pending: int = 0
    scheduled: int = 0
    processing: int = 0
    completed: int = 0
    failed: int = 0
    deadletter: int = 0
    total: int = 0
    max_age_ms: int = 0


@dataclass(frozen=True)
class QueueLimits:
    """The limits on how jobs of a queue are handed out; None for no limit."""

    jobs_per_second: float | None = None
    burst: int | None = None
    max_in_flight: int | None = None


@dataclass(frozen=True)
class WaitingError:
    """With which error so many jobs wait for their retry, and when the first is tried again."""

    error: str
    count: int
    next_at: datetime


@dataclass(frozen=True)
class QueueThrottle:
    """How handlers that raised Throttled slow a queue right now.

    ``jobs_per_second`` go out at most; it grows again while no handler says that it is too fast.
    ``since`` is when one last did; before ``held_until`` nothing goes out.
    """

    jobs_per_second: float
    since: datetime
    held_until: datetime | None = None


@dataclass(frozen=True)
class Queue:
    """One of the queues, as `queues()` lists them.

    ``waiting`` are those among ``stats.pending`` whose retry is not due yet; ``cancelled`` is the
    share of ``stats.total`` that has no field there, and ``expired`` are those of it that had not
    started in time. ``waiting_errors`` are those of the hundred oldest that wait.
    """

    name: str
    stats: QueueStats
    waiting: int = 0
    cancelled: int = 0
    paused: bool = False
    limits: QueueLimits = QueueLimits()
    waiting_errors: tuple[WaitingError, ...] = ()
    throttle: QueueThrottle | None = None
    expired: int = 0


@dataclass(frozen=True)
class WorkerState:
    """A registered worker, as of its last heartbeat.

    ``offline`` says that it has missed five heartbeats since ``seen_at``. ``version`` is that of
    what it runs, as far as it says so.
    """

    worker_id: str
    queue_name: str
    hostname: str
    worker_type: str = ""
    version: str = ""
    max_concurrency: int = 0
    current_jobs: int = 0
    status: str = ""
    registered_at: datetime | None = None
    seen_at: datetime | None = None
    offline: bool = False


@dataclass(frozen=True)
class WorkerRegistration:
    """A registered worker: its id, and how often the server wants to hear from it (seconds)."""

    worker_id: str
    lease_seconds: int
    heartbeat_seconds: int


@dataclass(frozen=True)
class HeartbeatResult:
    """Whether the server knows the worker, and whether the worker should take no more jobs."""

    acknowledged: bool
    should_drain: bool


@dataclass(frozen=True)
class CancelResult:
    """The jobs of a cancelled batch: cancelled (by this call or before), running, and done."""

    cancelled: int
    running: int
    done: int


@dataclass(frozen=True)
class JobAttempt:
    """One delivery of a job. ``ended_at`` and ``ending`` are None while it runs.

    ``ending`` is ``"completed"``, ``"failed"``, ``"given_back"`` (its worker was told to end),
    ``"lost"`` (its lease ran out) or ``"worker_died"``, then with the ``exit_code`` of the process,
    which is below 0 for a signal.
    """

    number: int
    worker_id: str | None
    started_at: datetime
    ended_at: datetime | None
    error: str | None
    ending: str | None = None
    exit_code: int | None = None


@dataclass(frozen=True)
class Stall:
    """Why a batch makes no progress: a cause such as ``"no_worker"``, and a sentence for people."""

    cause: str
    message: str


@dataclass(frozen=True)
class BatchStats:
    """The statistics of a batch. Each job counts in exactly one of pending to cancelled.

    ``settled`` means: sealed (the last row is in), and every job completed, dead or cancelled.
    Whether that is a success is for the waiter to say (``max_failed``). ``generation`` is the
    batch's newest, which is the one that these numbers are of. ``changed`` counts rows that came
    again with another payload than their job had, each time they came, and ``replaced`` those of
    them whose payload the job got. ``waiting`` are those among ``pending`` whose retry is not due
    yet, and ``waiting_errors`` the most frequent errors of the next hundred of them. ``expired``
    are those among ``cancelled`` that had not started by their ``expires_at``.
    """

    batch_id: str
    queue_name: str
    name: str = ""
    sealed: bool = False
    settled: bool = False
    total: int = 0
    pending: int = 0
    scheduled: int = 0
    processing: int = 0
    completed: int = 0
    deadletter: int = 0
    cancelled: int = 0
    created_at: datetime | None = None
    changed_at: datetime | None = None
    stalls: tuple[Stall, ...] = ()
    top_errors: tuple[tuple[str, int], ...] = ()
    generation: int = 0
    changed: int = 0
    replaced: int = 0
    made_by: str = ""
    waiting: int = 0
    waiting_errors: tuple[WaitingError, ...] = ()
    expired: int = 0

    @property
    def open(self) -> int:
        """Jobs that are not settled yet."""
        return self.pending + self.scheduled + self.processing

    @property
    def failed(self) -> int:
        """Jobs that will not complete: dead or cancelled."""
        return self.deadletter + self.cancelled
