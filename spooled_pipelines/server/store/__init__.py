"""The interface of a store of jobs. Times are milliseconds since the epoch throughout.

docs/states.md says what can happen to a job and to a batch; both stores are tested against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.lifecycle import LoopMonitor
from spooled_pipelines.server.core.notifier import CommitEvent
from spooled_pipelines.server.core.queue_limits import QueueControl, QueueLimits
from spooled_pipelines.server.core.records import (
    ALL_BEGUN,
    AttemptRecord,
    BatchOpening,
    BatchRecord,
    Chunk,
    ChunkRange,
    ChunkStored,
    CounterMismatch,
    Counts,
    Enqueued,
    ExpectedParts,
    FailOutcome,
    Holder,
    JobPage,
    JobRecord,
    KeyRecord,
    NewJob,
    OpenBatches,
    PartRecord,
    QueueRecord,
    Revision,
    Settlement,
    WorkerRecord,
)
from spooled_pipelines.server.store.listing import Listing


class JobStore(Listing, Protocol):
    """Each operation is one transaction, unless it says "in steps"; it returns once it is durable.

    Every operation but `keys`, `queue_names`, `open_batches`, `sweep` and `recount` is for one
    organization, and another's jobs, batches and workers are to it as if they did not exist.
    Refusals are `errors.RefusedError`.
    """

    async def open(
        self, on_commit: Callable[[CommitEvent], None], monitor: LoopMonitor | None = None
    ) -> None:
        """Open or make the store; `on_commit` is called on this loop after each commit.

        `monitor` is told of the loops that the store runs. Nothing is done where it is open.
        """

    async def close(self) -> None:
        """Commit what has been taken in, and let go of the store; it may be opened again."""

    def job_id(self, seq: int) -> str:
        """The id of the job with this number."""

    def job_ids_prefix(self) -> str:
        """What every id of this store starts with; the number follows as 12 hex digits."""

    # Jobs

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

    async def settle(
        self, organization: str, settlements: Sequence[Settlement]
    ) -> list[FailOutcome | RefusedError | None]:
        """Settle many: for each, in turn, a failure's outcome, or why it was refused."""

    async def renew(self, organization: str, holder: Holder, lease_ms: int) -> int:
        """Let a lease last this long from now; returns when it ends."""

    async def job(self, organization: str, job_id: str) -> JobRecord:
        """One job."""

    # Batches

    async def open_batch(self, organization: str, opening: BatchOpening) -> BatchRecord:
        """Make a batch, find it or begin a greater generation of it.

        FAILED_PRECONDITION where it is on another queue, or has a newer generation. The part that
        it names has begun.
        """

    async def add_chunk(self, organization: str, chunk: Chunk) -> ChunkStored:
        """Store rows as jobs of a batch, each key once; the same chunk again, the same outcome.

        A row that is new to the batch makes the chunk's part unfinished, if it was finished.
        """

    async def stored_chunks(
        self, organization: str, batch_id: str, upload_id: str
    ) -> list[ChunkRange]:
        """Which chunks of an upload to a batch that is not sealed are stored: the first ranges."""

    async def finish_part(
        self, organization: str, batch_id: str, generation: int, part: PartRecord
    ) -> PartRecord:
        """Note that the last row of a part is in; as it is kept."""

    async def batch_parts(
        self, organization: str, batch_id: str, after: str, limit: int
    ) -> list[PartRecord]:
        """Parts with an id above `after`, in the order of their ids."""

    async def seal_batch(
        self,
        organization: str,
        batch_id: str,
        generation: int = 0,
        expected: ExpectedParts = ALL_BEGUN,
    ) -> BatchRecord:
        """Note that the last row of the batch's newest generation, which must be this, is in.

        FAILED_PRECONDITION while parts are missing.
        """

    async def cancel_batch(
        self, organization: str, batch_id: str, generation: int | None
    ) -> Counts:
        """Cancel what has not started, in steps, of generations up to this; their counters then."""

    async def retry_batch(
        self, organization: str, batch_id: str, error_contains: str, cancelled: bool = False
    ) -> int:
        """Give dead letters whose error has this text all their retries back, in steps.

        And, where that is asked for, what was cancelled.
        """

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

    # Queues

    async def queue(self, organization: str, queue_name: str) -> QueueRecord:
        """A queue's counters; of a queue that never had a job, zeros."""

    async def queue_names(self, limit: int) -> list[tuple[str, str]]:
        """Organization and name of the oldest queues, whosever they are."""

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

    # Workers

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

    # Keys

    async def add_key(self, key: KeyRecord) -> None:
        """Keep a new API key."""

    async def revoke_key(self, organization: str, key_id: str) -> KeyRecord:
        """End a key now; one that was revoked before stays as it is. NOT_FOUND without one."""

    async def keys(self) -> list[KeyRecord]:
        """Every key of every organization, oldest first, those that ended included."""

    # Upkeep

    async def revise(
        self, organization: str, revisions: Sequence[Revision]
    ) -> list[RefusedError | None]:
        """Requeue dead letters or cancel them: for each, in turn, why it was refused."""

    async def sweep(self) -> int | None:
        """Release what is due and take back leases that ran out; returns the next such moment."""

    async def recount(self) -> list[CounterMismatch]:
        """Every counter that differs from a count over the jobs. Slow: for checks only."""
