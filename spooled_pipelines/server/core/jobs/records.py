"""What a store takes in and gives out, as plain values. Times are milliseconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from spooled_pipelines.server.core.limits.queue_limits import QueueControl, Throttle


class Status:
    """The numbers of `spooled.v1.JobStatus`, as plain integers."""

    PENDING = 1
    SCHEDULED = 2
    PROCESSING = 3
    COMPLETED = 4
    FAILED = 5
    DEADLETTER = 6
    CANCELLED = 7

    NAMES: Mapping[int, str] = {
        1: "pending",
        2: "scheduled",
        3: "processing",
        4: "completed",
        5: "failed",
        6: "deadletter",
        7: "cancelled",
    }


class NewJob(NamedTuple):
    """A job to be stored, checked already; `payload` is a Struct, serialized."""

    queue_name: str
    payload: bytes
    priority: int
    max_retries: int
    timeout_seconds: int
    scheduled_at: int | None
    idempotency_key: str | None
    tags: bytes | None
    # How long it waits before each retry, see `retry_backoff.py`; None: the server's own pauses.
    retry_backoff: str | None = None
    # It is not begun after this.
    expires_at: int | None = None


class Enqueued(NamedTuple):
    """`created` is False where the organization had a job of this key already."""

    job_id: str
    created: bool


class JobRecord(NamedTuple):
    """A job as it is stored. `payload` is None where it was left out on purpose."""

    seq: int
    job_id: str
    queue_name: str
    status: int
    priority: int
    retry_count: int
    max_retries: int
    deliveries: int
    run_alone: int
    timeout_seconds: int
    created_at: int
    scheduled_at: int | None
    started_at: int | None
    completed_at: int | None
    lease_expires_at: int | None
    worker_id: str | None
    lease_id: str | None
    # Which schema its payload has, if it came with one; see `PayloadSchema`.
    schema_id: int | None
    last_error: str | None
    idempotency_key: str | None
    result: bytes | None
    payload: bytes | None
    # Only of a claimed job.
    tags: bytes | None = None
    # Only of a listed job: until then it is not claimed.
    due_at: int | None = None


class Counts(NamedTuple):
    """Jobs by status.

    `waiting` are those pending jobs whose retry is not due yet, `expired` those cancelled ones that
    had not started in time.
    """

    pending: int
    waiting: int
    scheduled: int
    processing: int
    completed: int
    failed: int
    deadletter: int
    cancelled: int
    expired: int

    @property
    def total(self) -> int:
        return sum(self) - self.waiting - self.expired


class WaitingError(NamedTuple):
    """How many of the jobs that wait for their retry failed with an error, and the first retry."""

    error: str
    jobs: int
    next_at: int


class QueueRecord(NamedTuple):
    """A queue's counters; `oldest` is when its oldest claimable job was made."""

    counts: Counts
    oldest: int | None


class WorkerRecord(NamedTuple):
    """What a worker says about itself; `metadata` is JSON."""

    worker_id: str
    queue_name: str
    hostname: str
    worker_type: str
    max_concurrency: int
    version: str
    metadata: str


class JobPage(NamedTuple):
    """Some jobs of a batch; `after` is the place to go on from, None at the end."""

    jobs: list[JobRecord]
    after: int | None


class AttemptRecord(NamedTuple):
    """One delivery of a job; `ended_at`, `ending` are None while it runs, `error` if it has none.

    `exit_code` is that of the process that died with it.
    """

    number: int
    worker_id: str | None
    started_at: int
    ended_at: int | None
    ending: int | None
    exit_code: int | None
    error: str | None


# Payloads and results in a page of `batch_jobs`: what the stream of a reader that is slow keeps.
PAGE_BYTES = 256 << 10


class OpenBatches(NamedTuple):
    """Batches of a queue that are not settled: not sealed yet, and sealed with jobs to come."""

    organization: str
    queue_name: str
    filling: int
    working: int
    oldest: int


class QueueDepth(NamedTuple):
    """A queue, whosever it is, with its counters, and how many workers of it are there.

    `oldest_retrying` is when the oldest job was made that waits for its retry.
    """

    organization: str
    queue_name: str
    record: QueueRecord
    paused: bool
    oldest_retrying: int | None
    workers: int


class StoreLoad(NamedTuple):
    """How many of a store's writers (connections, or SQLite's one thread) are in use, of how many.

    `waiting` are operations that wait for one.
    """

    used: int
    size: int
    waiting: int


class StoreSize(NamedTuple):
    """What a part of a store takes: a table, or SQLite's file or log.

    `dead_rows` are those of a table that a vacuum has not removed, by PostgreSQL's estimate.
    """

    part: str
    table: int
    indexes: int = 0
    dead_rows: int = 0


class ThrottledQueue(NamedTuple):
    """A queue that is slower, since jobs of it said that they come too fast."""

    organization: str
    queue_name: str
    throttle: Throttle


class Depths(NamedTuple):
    """The oldest queues, the oldest of those with batches that are not settled, and the slowed."""

    queues: list[QueueDepth]
    open_batches: list[OpenBatches]
    throttled: list[ThrottledQueue]


class ListedQueue(NamedTuple):
    """A queue with its counters and what holds it back."""

    queue_name: str
    record: QueueRecord
    control: QueueControl
    waiting_errors: tuple[WaitingError, ...] = ()


class ListedWorker(NamedTuple):
    """A worker as it registered, and what it last said."""

    worker: WorkerRecord
    status: str
    current_jobs: int
    registered_at: int
    seen_at: int


class QueuePage(NamedTuple):
    """Some queues; `after` is the name to go on behind, None at the end."""

    queues: list[ListedQueue]
    after: str | None


class CounterMismatch(NamedTuple):
    """A counter that is not what a recount says."""

    what: str
    counted: Counts
    kept: Counts

    def sentences(self) -> list[str]:
        """Return a sentence for each number that is wrong."""
        return [
            f"{self.what}: {name} is kept as {kept}, and counted as {counted}"
            for name, kept, counted in zip(Counts._fields, self.kept, self.counted, strict=True)
            if kept != counted
        ]
