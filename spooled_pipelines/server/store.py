"""The interface of a store of jobs. Times are milliseconds since the epoch throughout.

docs/states.md says what can happen to a job and to a batch; both stores are tested against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from spooled_pipelines.server.dispatch import Braked, QueueControl, QueueLimits
from spooled_pipelines.server.wakeups import Changes


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
    timeout_seconds: int
    created_at: int
    scheduled_at: int | None
    started_at: int | None
    completed_at: int | None
    lease_expires_at: int | None
    worker_id: str | None
    lease_id: str | None
    last_error: str | None
    idempotency_key: str | None
    result: bytes | None
    payload: bytes | None
    # Only of a claimed job.
    tags: bytes | None = None


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


class Holder(NamedTuple):
    """Who says that a job's lease is its own; an empty part was not given."""

    job_id: str
    worker_id: str
    lease_id: str


class FailOutcome(NamedTuple):
    """What became of a failed job."""

    will_retry: bool
    delay_seconds: int


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


class BatchOpening(NamedTuple):
    """What makes a batch, or finds it again."""

    batch_id: str
    queue_name: str
    name: str
    generation: int = 0


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
    braked: Braked | None = None

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
    means that no row has a schedule.
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


class ChunkStored(NamedTuple):
    """The outcome of a chunk: each row's job, and which rows created none (by place).

    `first` is set, and `seqs` empty, where every row made a job, numbered from `first` on.
    """

    rows: int
    first: int | None
    seqs: Sequence[int]
    duplicates: Sequence[int]


class JobPage(NamedTuple):
    """Some jobs of a batch; `after` is the place to go on from, None at the end."""

    jobs: list[JobRecord]
    after: int | None


class AttemptRecord(NamedTuple):
    """One try of a job; `ended_at` is None while it runs, `error` where it did not fail."""

    number: int
    worker_id: str | None
    started_at: int
    ended_at: int | None
    error: str | None


# Payloads and results in a page of `batch_jobs`: what the stream of a reader that is slow keeps.
PAGE_BYTES = 256 << 10


def changes_of(deltas: Iterable[Sequence[int]]) -> int:
    """How many jobs came into another status, by what that adds to counters."""
    waiting = Counts._fields.index("waiting")
    return sum(
        delta for row in deltas for place, delta in enumerate(row) if delta > 0 and place != waiting
    )


class OpenBatches(NamedTuple):
    """Batches of a queue that are not settled: not sealed yet, and sealed with jobs to come."""

    organization: str
    queue_name: str
    filling: int
    working: int
    oldest: int


class CounterMismatch(NamedTuple):
    """A counter that is not what a recount says."""

    what: str
    counted: Counts
    kept: Counts

    def sentences(self) -> list[str]:
        """A sentence for each number that is wrong."""
        return [
            f"{self.what}: {name} is kept as {kept}, and counted as {counted}"
            for name, kept, counted in zip(Counts._fields, self.kept, self.counted, strict=True)
            if kept != counted
        ]


class JobStore(Protocol):
    """Each operation is one transaction, unless it says "in steps"; it returns once it is durable.

    Every operation but `keys`, `queue_names`, `open_batches`, `sweep` and `recount` is for one
    organization, and another's jobs, batches and workers are to it as if they did not exist.
    Refusals are `errors.RefusedError`.
    """

    async def open(self, on_commit: Callable[[Changes], None]) -> None:
        """Open or make the store; `on_commit` is called on this loop after each commit."""

    async def close(self) -> None:
        """Commit what has been taken in, and let go of the store."""

    def job_id(self, seq: int) -> str:
        """The id of the job with this number."""

    def job_ids_prefix(self) -> str:
        """What every id of this store starts with; the number follows as 12 hex digits."""

    async def enqueue(self, organization: str, job: NewJob) -> Enqueued:
        """Store a job, or find the one that has its key."""

    async def claim(
        self, organization: str, queue_name: str, worker_id: str, lease_ms: int, limit: int
    ) -> list[JobRecord]:
        """Lease at most `limit` claimable jobs: highest priority first, then oldest.

        No more than the queue's limits let out.
        """

    async def give_back(self, organization: str, holders: Sequence[Holder]) -> None:
        """Undo claims whose jobs reached nobody; what is no longer the holder's stays as it is."""

    async def complete(self, organization: str, holder: Holder, result: bytes | None) -> None:
        """Settle a leased job with its result (a Struct, serialized)."""

    async def fail(self, organization: str, holder: Holder, error: str, retry: bool) -> FailOutcome:
        """Give a leased job back for a later retry, or to the dead letters."""

    async def renew(self, organization: str, holder: Holder, lease_ms: int) -> int:
        """Let a lease last this long from now; returns when it ends."""

    async def job(self, organization: str, job_id: str) -> JobRecord:
        """One job."""

    async def queue(self, organization: str, queue_name: str) -> QueueRecord:
        """A queue's counters; of a queue that never had a job, zeros."""

    async def queue_names(self, limit: int) -> list[tuple[str, str]]:
        """Organization and name of the oldest queues, whosever they are."""

    async def register_worker(self, organization: str, worker: WorkerRecord) -> None:
        """Add a worker or update it; ALREADY_EXISTS where another organization has the id."""

    async def heartbeat(
        self, organization: str, worker_id: str, current_jobs: int, status: str, metadata: str
    ) -> None:
        """Note that a worker lives."""

    async def deregister_worker(self, organization: str, worker_id: str) -> bool:
        """Forget a worker; False where there was none."""

    async def queue_of_worker(self, organization: str, worker_id: str) -> str | None:
        """The queue that a worker is registered for; None where there is no such worker."""

    async def add_key(self, key: KeyRecord) -> None:
        """Keep a new API key."""

    async def revoke_key(self, organization: str, key_id: str) -> KeyRecord:
        """End a key now; one that was revoked before stays as it is. NOT_FOUND without one."""

    async def keys(self) -> list[KeyRecord]:
        """Every key of every organization, oldest first, those that ended included."""

    async def open_batch(self, organization: str, opening: BatchOpening) -> BatchRecord:
        """Make a batch, find it or begin a greater generation of it.

        FAILED_PRECONDITION where it is on another queue, or has a newer generation.
        """

    async def add_chunk(self, organization: str, chunk: Chunk) -> ChunkStored:
        """Store rows as jobs of a batch, each key once; the same chunk again, the same outcome."""

    async def seal_batch(
        self, organization: str, batch_id: str, generation: int = 0
    ) -> BatchRecord:
        """Note that the last row of the batch's newest generation, which must be this, is in."""

    async def cancel_batch(
        self, organization: str, batch_id: str, generation: int | None
    ) -> Counts:
        """Cancel what has not started, in steps, of generations up to this; their counters then."""

    async def retry_batch(self, organization: str, batch_id: str, error_contains: str) -> int:
        """Give dead letters whose error has this text all their retries back, in steps."""

    async def attempts(self, organization: str, job_id: str) -> list[AttemptRecord]:
        """Every attempt at a job, oldest first."""

    async def find_keys(self, organization: str, queue_name: str, keys: Sequence[str]) -> list[int]:
        """The places of those keys that jobs of this queue have, in order."""

    async def batches(self, organization: str, batch_ids: Sequence[str]) -> list[BatchRecord]:
        """Batches in the order asked for; NOT_FOUND names the first that is not there."""

    async def open_batches(self, limit: int) -> list[OpenBatches]:
        """Of the oldest queues that have some, whosever they are; reads nothing that settled."""

    async def batch_jobs(
        self,
        organization: str,
        batch_id: str,
        statuses: Sequence[int],
        after: int,
        limit: int,
        omit_payload: bool,
    ) -> JobPage:
        """Jobs of a batch with a number above `after`, oldest first."""

    async def set_paused(self, organization: str, queue_name: str, paused: bool) -> None:
        """Let nobody claim of a queue any more, or again."""

    async def set_limits(
        self, organization: str, queue_name: str, limits: QueueLimits
    ) -> QueueLimits:
        """Cap what is claimed of a queue from now on, instead of as before; as it is kept."""

    async def queue_control(self, organization: str, queue_name: str) -> QueueControl:
        """What holds a queue back; of a queue that never had a job, nothing."""

    async def purge_queue(self, organization: str, queue_name: str) -> int:
        """Cancel what is pending on a queue now, in steps; returns how many."""

    async def dead_letters(
        self, organization: str, queue_name: str, after: int, limit: int
    ) -> JobPage:
        """Dead letters of a queue with a number above `after`, oldest first."""

    async def redrive(self, organization: str, queue_name: str, error_contains: str) -> int:
        """Give dead letters whose error has this text all their retries back, in steps."""

    async def sweep(self) -> int | None:
        """Release what is due and take back leases that ran out; returns the next such moment."""

    async def recount(self) -> list[CounterMismatch]:
        """Every counter that differs from a count over the jobs. Slow: for checks only."""
