"""What a store takes in and gives out, as plain values. Times are milliseconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.queue_limits import LimitedBy, QueueControl, Throttle


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
    run_alone: bool
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


@dataclass(frozen=True)
class KeyRecord:
    """An API key as it is kept. `role` is a value of `access.Role`; no `queues` means all."""

    organization: str
    key_id: str
    name: str
    role: str
    queues: tuple[str, ...]
    digest: bytes = field(repr=False)
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    created_by: str = ""
    last_used_at: int | None = None


class AuditKind(IntEnum):
    """The kinds of entries of the audit, of which each has its own room."""

    ADMIN = 0
    # What keys did that are not an admin's.
    OTHER = 1
    REFUSED = 2


class AuditEntry(NamedTuple):
    """What was done or refused with which key; see `AuditEntry` in keys.proto."""

    at: int
    kind: AuditKind
    times: int
    organization: str
    key_id: str
    key_name: str
    peer: str
    action: str
    target: str
    outcome: str


class AuditPage(NamedTuple):
    """Some entries, newest first; `before` is the number to go on below, None at the end."""

    entries: list[AuditEntry]
    before: int | None


class LeaseHolder(NamedTuple):
    """Who says that a job's lease is its own; an empty part was not given."""

    job_id: str
    worker_id: str
    lease_id: str


class FailOutcome(NamedTuple):
    """What became of a failed job."""

    will_retry: bool
    delay_seconds: int


@dataclass(frozen=True, slots=True)
class Completion:
    """It is done; `result` is a Struct, serialized."""

    result: bytes | None


@dataclass(frozen=True, slots=True)
class Failure:
    """It failed; `delay_seconds` None: the pause that its retries so far ask for."""

    error: str
    retry: bool
    delay_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class GiveBack:
    """It reached nobody, or is not to be finished: claimable again at once, or after a while.

    `begun` says that its handler had begun, so that it was a delivery. With `throttles` it comes
    back at once to a queue that is slower, and held for `after_ms`.
    """

    begun: bool = False
    after_ms: int | None = None
    throttles: bool = False


@dataclass(frozen=True, slots=True)
class Death:
    """The process that ran it died; `exit_code` as Python has it: below 0 a signal.

    `shared`: the process had other jobs as well, any of which may have killed it.
    """

    error: str
    exit_code: int
    shared: bool


Incomplete = Failure | GiveBack | Death
Act = Completion | Incomplete


class Ending:
    """How a delivery ended, as `batch_v1.Attempt.Ending` numbers it."""

    COMPLETED = 1
    FAILED = 2
    GIVEN_BACK = 3
    LOST = 4
    DIED = 5

    NAMES: Mapping[int, str] = {
        1: "completed",
        2: "failed",
        3: "given_back",
        4: "lost",
        5: "worker_died",
    }


class Settlement(NamedTuple):
    """What someone says about a job that it holds."""

    holder: LeaseHolder
    act: Act


class LeasedJobs(NamedTuple):
    """Jobs of one queue that somebody says to hold by one lease; an empty worker was not given."""

    queue_name: str
    worker_id: str
    lease_id: str
    job_ids: Sequence[str]

    def holder(self, place: int) -> LeaseHolder:
        """Return who says that it holds the job at this place."""
        return LeaseHolder(self.job_ids[place], self.worker_id, self.lease_id)


class ChunkSettlement(NamedTuple):
    """What became of jobs of one lease: all completed, but for the exceptions, by place.

    There are no results, or one for each job. What is refused already is left alone.
    """

    jobs: LeasedJobs
    results: Sequence[bytes | None]
    exceptions: Mapping[int, Incomplete | RefusedError]

    def act(self, place: int) -> Act | RefusedError:
        """Return what became of the job at this place."""
        result = self.results[place] if self.results else None
        return self.exceptions.get(place) or Completion(result)


class Revision(NamedTuple):
    """What to do with one job.

    A dead letter is requeued, with this payload if there is one, or discarded; a job that has not
    started is cancelled.
    """

    job_id: str
    payload: bytes | None = None
    discard: bool = False
    cancel: bool = False


class Counts(NamedTuple):
    """Jobs by status. `waiting` are those pending jobs whose retry is not due yet."""

    pending: int
    waiting: int
    scheduled: int
    processing: int
    completed: int
    failed: int
    deadletter: int
    cancelled: int

    @property
    def total(self) -> int:
        return sum(self) - self.waiting


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


class PayloadSchema(NamedTuple):
    """The Arrow schema that payloads of a batch have, serialized, and the number that names it."""

    schema_id: int
    schema: bytes


class BatchOpening(NamedTuple):
    """What makes a batch, or finds it again."""

    batch_id: str
    queue_name: str
    name: str
    generation: int = 0
    # The part that is about to come, if the batch comes in parts.
    part_id: str = ""
    # Whether what earlier generations have not started is cancelled.
    cancels_older: bool = False
    # What the rows are that are about to come; without it they hold no seal back.
    rows_id: str = ""
    # Who makes the batch, for people.
    made_by: str = ""
    # What the payloads are that are about to come.
    schema: PayloadSchema | None = None
    # Of the batch among those it takes turns with; 0 leaves it as it is.
    weight: int = 0
    # What the limit keys of its rows are, and how many jobs of each may run at once.
    limit_by: str = ""
    limit_per_key: int = 0


class PartRecord(NamedTuple):
    """A part of a batch; `rows` as its sender counted them when it finished it."""

    part_id: str
    finished: bool
    rows: int


@dataclass(frozen=True)
class ExpectedParts:
    """What has to be finished: so many parts, or these; with neither, all that have begun."""

    count: int | None = None
    part_ids: Sequence[str] = ()


ALL_BEGUN = ExpectedParts()


class JobsAhead(NamedTuple):
    """How many jobs of its queue go before the next one of a batch, and of which batches.

    `batches` are the id, the name and the jobs of each, most jobs first; the id of what is in no
    batch is empty. Where not `is_all`, there are more.
    """

    jobs: int
    is_all: bool
    batches: tuple[tuple[str, str, int], ...]


class BatchRecord(NamedTuple):
    """A batch's counters, and what tells why nothing moves."""

    batch_id: str
    queue_name: str
    name: str
    sealed: bool
    counts: Counts
    created_at: int
    changed_at: int
    top_errors: tuple[tuple[str, int], ...]
    # When a registered worker of the queue was last heard of, and a lease last ran out.
    worker_seen_at: int | None
    lease_expired_at: int | None
    generation: int = 0
    queue_paused: bool = False
    # The queue's limits, where it has any, and which of them hold it back.
    limited_by: LimitedBy | None = None
    # Rows that came again with another payload, and those whose job got it.
    changed: int = 0
    replaced: int = 0
    # Whether an upload has ended, and others hold the seal back.
    seal_asked: bool = False
    made_by: str = ""
    waiting_errors: tuple[WaitingError, ...] = ()
    behind: JobsAhead | None = None
    # Those among the cancelled that had not started in time.
    expired: int = 0
    limit_by: str = ""
    limit_per_key: int = 0

    @property
    def may_be_behind(self) -> bool:
        """Whether jobs could be claimed and none is."""
        counts = self.counts
        ready = counts.pending - counts.waiting
        return ready > 0 and not counts.processing and not self.queue_paused

    @property
    def open_jobs(self) -> int:
        counts = self.counts
        return counts.pending + counts.scheduled + counts.processing

    @property
    def settled(self) -> bool:
        return self.sealed and not self.open_jobs


@dataclass(frozen=True)
class Chunk:
    """Rows of a batch, checked already, as columns of the same length.

    A column that is one value instead of a sequence has it for every row; `scheduled_at` None
    means that no row has a schedule. No `payloads` for its `keys`: it was stored before.
    """

    batch_id: str
    upload_id: str
    number: int
    keys: Sequence[str]
    payloads: Sequence[bytes]
    priorities: Sequence[int] | int
    max_retries: Sequence[int] | int
    timeout_seconds: Sequence[int] | int
    scheduled_at: Sequence[int | None] | None
    tags: Sequence[bytes | None] | bytes | None
    generation: int = 0
    part_id: str = ""
    retry_backoff: Sequence[str | None] | str | None = None
    # With what rows take turns in place of their batch, see `turns.key_number`.
    fair_keys: Sequence[int | None] | None = None
    expires_at: Sequence[int | None] | int | None = None
    # Of which keys how many jobs may run at once.
    limit_keys: Sequence[int | None] | None = None
    limit_per_key: int = 0
    # In these statuses a job gets the payload of its row, where that is another one.
    replaceable: tuple[int, ...] = ()
    # Which of the batch's schemas the payloads have.
    schema_id: int | None = None


class KeysFound(NamedTuple):
    """The places of keys that jobs have, and of those whose job has another payload."""

    found: list[int]
    changed: list[int]


class ChunkRange(NamedTuple):
    """Numbers of chunks, both ends included."""

    first: int
    last: int


class ChunkStored(NamedTuple):
    """The outcome of a chunk: each row's job, and which rows created none (by place).

    `changed` are those of them with another payload than their job had, `replaced` those of
    `changed` whose payload it has now. `first` is set, and `seqs` empty,
    where every row made a job, numbered from `first` on.
    """

    rows: int
    first: int | None
    seqs: Sequence[int]
    duplicates: Sequence[int]
    changed: Sequence[int] = ()
    replaced: Sequence[int] = ()


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


# The most runs of chunks in the answer to a client that opens an upload again.
CHUNK_RANGES_MAX = 1_000
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


class CancelOutcome(NamedTuple):
    """How many jobs were cancelled, and the counters of what was selected after that."""

    cancelled: int
    counts: Counts


class RetryOutcome(NamedTuple):
    """How many jobs went back, and how many cancelled ones could not: their payloads are gone."""

    retried: int
    stripped: int = 0
    # The first ten of them.
    stripped_job_ids: Sequence[str] = ()


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


class BatchPage(NamedTuple):
    """Some batches; `before` is the number to go on below, None at the end."""

    batches: list[BatchRecord]
    before: int | None


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
