"""The interface of a store of jobs. Times are milliseconds since the epoch throughout.

docs/states.md says what can happen to a job and to a batch; both stores are tested against it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from spooled_pipelines.server.core.batches.records import (
    ALL_BEGUN,
    BatchOpening,
    BatchPage,
    BatchRecord,
    CancelOutcome,
    Chunk,
    ChunkRange,
    ChunkStored,
    ExpectedParts,
    KeysFound,
    PartRecord,
    PayloadSchema,
    RetryOutcome,
)
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.jobs.columns import JobColumns
from spooled_pipelines.server.core.jobs.records import (
    AttemptRecord,
    CounterMismatch,
    Depths,
    Enqueued,
    JobPage,
    JobRecord,
    ListedWorker,
    NewJob,
    QueuePage,
    QueueRecord,
    StoreLoad,
    StoreSize,
    WorkerRecord,
)
from spooled_pipelines.server.core.jobs.settlements import (
    ChunkSettlement,
    FailOutcome,
    LeasedJobs,
    LeaseHolder,
    Revision,
    Settlement,
)
from spooled_pipelines.server.core.key_records import AuditEntry, AuditPage, KeyRecord
from spooled_pipelines.server.core.limits.queue_limits import QueueControl
from spooled_pipelines.server.core.page_tokens import PageTokens
from spooled_pipelines.server.core.runtime.lifecycle import LoopMonitor
from spooled_pipelines.server.core.runtime.notifier import CommitEvent
from spooled_pipelines.server.core.runtime.queue_names import EarlierName
from spooled_pipelines.server.store.requests import (
    BatchJobs,
    BatchListing,
    BatchSelector,
    ClaimRequest,
    ControlChange,
    DeadWorker,
    Heartbeat,
    JobQuery,
    KeyQuery,
    LostClaims,
    QueueSelector,
)

# What each settlement came to: a failure's outcome, or why it was refused.
Settled = FailOutcome | RefusedError | None
Selector = BatchSelector | QueueSelector
# Names of queues; None means all of the organization's.
Queues = Sequence[str] | None


class JobStore(Protocol):
    """Each operation is one transaction, unless it says "in steps"; it returns once it is durable.

    All but `keys`, `earlier_names`, `depths`, `sizes`, `sweep` and `recount` are for one
    organization, and another's jobs, batches and workers are to them as if they did not exist.
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

    def schema(self) -> str:
        """Return the name of the newest migration that this store is made by."""

    def load(self) -> StoreLoad:
        """Return how much of what writes is in use now; it may be asked from any thread."""

    @property
    def page_tokens(self) -> PageTokens:
        """How pages of what all organizations are counted in are named; the store is open."""

    def job_ids_prefix(self) -> str:
        """Return what every id of this store starts with; 12 hex digits follow: the number."""

    # Jobs

    async def enqueue(self, organization: str, job: NewJob) -> Enqueued:
        """Store a job, or find the one that has its key."""

    async def claim(self, organization: str, request: ClaimRequest) -> list[JobRecord]:
        """Lease claimable jobs, within the queue's limits: highest priority first, then oldest."""

    async def settle(self, organization: str, settlements: Sequence[Settlement]) -> list[Settled]:
        """Complete, fail or give back leased jobs, each in turn; what is refused is left alone."""

    async def settle_chunk(
        self, organization: str, settlement: ChunkSettlement
    ) -> dict[int, Settled]:
        """Settle jobs of one lease; return, by place, all but those that are now completed."""

    async def renew(self, organization: str, holder: LeaseHolder, lease_ms: int) -> int:
        """Let a lease last this long from now; return when it ends."""

    async def renew_chunk(self, organization: str, jobs: LeasedJobs, lease_ms: int) -> list[int]:
        """Let the lease of these jobs last this long from now; return the places of those lost."""

    async def revise(
        self, organization: str, revisions: Sequence[Revision]
    ) -> list[RefusedError | None]:
        """Requeue, discard or cancel jobs one by one: for each, in turn, why it was refused."""

    async def job(self, organization: str, job_id: str) -> JobRecord:
        """Return one job."""

    async def jobs(self, organization: str, query: JobQuery) -> JobPage:
        """Return a page of jobs, oldest first; of a listing, newest first."""

    async def job_columns(
        self, organization: str, query: BatchJobs, queues: Collection[str] | None
    ) -> JobColumns:
        """Return a page of a batch's jobs by column, of these queues (None: all), oldest first."""

    async def attempts(self, organization: str, job_id: str) -> list[AttemptRecord]:
        """Return the newest thousand attempts at a job, oldest first."""

    async def keys_elsewhere(
        self, organization: str, queues: Collection[str], keys: Sequence[str]
    ) -> list[int]:
        """Return the places of those keys that jobs of other queues than these have."""

    async def find_keys(self, organization: str, query: KeyQuery) -> KeysFound:
        """Return the places of those keys that jobs of this queue have, in order."""

    # Batches

    async def open_batch(self, organization: str, opening: BatchOpening) -> BatchRecord:
        """Make a batch, find it or begin a greater generation of it, and begin the part it names.

        FAILED_PRECONDITION where it is on another queue, or has a newer generation. Where it
        cancels older generations, that is noted with it and done in steps, if need be by `sweep`.
        """

    async def add_chunk(self, organization: str, chunk: Chunk) -> ChunkStored:
        """Store rows as jobs of a batch, each key once; the same chunk again, the same outcome.

        A row with the key of a job and another payload is said, and replaces it where it may.
        A row that is new to the batch makes the chunk's part unfinished, if it was finished.
        """

    async def stored_chunks(
        self, organization: str, batch_id: str, upload_id: str
    ) -> list[ChunkRange]:
        """Return the first ranges of chunks that are stored of a batch that is not sealed."""

    async def finish_part(
        self,
        organization: str,
        batch_id: str,
        generation: int,
        part: PartRecord,
        rows_id: str = "",
    ) -> PartRecord:
        """Note that the last row of a part is in, of an upload of these rows.

        FAILED_PRECONDITION while another upload of the part is not finished.
        """

    async def batch_parts(
        self, organization: str, batch_id: str, after: str, limit: int
    ) -> list[PartRecord]:
        """Return parts with an id above `after`, in the order of their ids."""

    async def payload_schema(self, organization: str, job_id: str) -> PayloadSchema:
        """Return the schema that a job's payload came with; NOT_FOUND where it had none."""

    async def result_schema(self, organization: str, batch_id: str) -> bytes | None:
        """Return the schema of a batch's results, where it has one."""

    async def keep_result_schema(self, organization: str, job_id: str, schema: bytes) -> bytes:
        """Keep the schema of the results of a job's batch unless it has one; return the one kept.

        NOT_FOUND where no batch made the job.
        """

    async def seal_batch(
        self,
        organization: str,
        batch_id: str,
        generation: int = 0,
        expected: ExpectedParts = ALL_BEGUN,
        rows_id: str = "",
    ) -> BatchRecord:
        """Note that the last row of the batch's newest generation, which must be this, is in.

        FAILED_PRECONDITION while parts are missing. While uploads of other rows are not
        finished, the batch is not sealed yet, or without `rows_id` the call is refused.
        """

    async def hear_upload(
        self, organization: str, batch_id: str, part_id: str, rows_id: str
    ) -> None:
        """Note that an upload goes on."""

    async def batches(self, organization: str, batch_ids: Sequence[str]) -> list[BatchRecord]:
        """Return batches in the order asked for; NOT_FOUND names the first that is not there."""

    async def list_batches(self, organization: str, listing: BatchListing) -> BatchPage:
        """Return a page of batches, newest first."""

    # Many jobs at once

    async def cancel(self, organization: str, selector: Selector) -> CancelOutcome:
        """Cancel, in steps, what has not started of a batch, or is pending on a queue now."""

    async def retry(
        self,
        organization: str,
        selector: Selector,
        error_contains: str = "",
        cancelled: bool = False,
    ) -> RetryOutcome:
        """Give dead letters whose error has this text all their retries back, in steps.

        With `cancelled`, what was cancelled of a batch as well, if it still has its payload.
        """

    # Queues

    async def queue(self, organization: str, queue_name: str) -> QueueRecord:
        """Return a queue's counters; of a queue that never had a job, zeros."""

    async def list_queues(
        self, organization: str, queues: Queues, after: str, limit: int
    ) -> QueuePage:
        """Return queues whose name is above `after`, by name."""

    async def control(self, organization: str, queue_name: str) -> QueueControl:
        """Return what holds a queue back; of a queue that never had a job, nothing."""

    async def set_control(
        self, organization: str, queue_name: str, change: ControlChange
    ) -> QueueControl:
        """Pause a queue, resume it, or cap what is claimed of it; return what is kept."""

    async def rename_queue(
        self, organization: str, queue_name: str, new_name: str, request_id: str
    ) -> None:
        """Give a queue another name, which no other has or had; the earlier one means it, too."""

    async def earlier_names(self) -> list[EarlierName]:
        """Return every name that a queue had before, of every organization."""

    async def depths(self, limit: int) -> Depths:
        """Return the oldest queues, and those with open batches; reads nothing that settled."""

    async def sizes(self) -> list[StoreSize]:
        """Return what the store takes, by its parts."""

    # Workers

    async def take_back(self, organization: str, lost: LostClaims) -> int:
        """Give back what was claimed without an answer; return how many jobs."""

    async def end_worker(self, organization: str, worker: DeadWorker) -> int:
        """End every lease of a worker whose process died; return how many there were."""

    async def register_worker(self, organization: str, worker: WorkerRecord) -> None:
        """Add a worker or update it; RESOURCE_EXHAUSTED where there are too many."""

    async def heartbeat(self, organization: str, heartbeat: Heartbeat) -> None:
        """Note that a worker lives."""

    async def deregister_worker(self, organization: str, worker_id: str) -> bool:
        """Forget a worker; False where there was none."""

    async def queue_of_worker(self, organization: str, worker_id: str) -> str | None:
        """Return the queue that a worker is registered for; None without such a worker."""

    async def list_workers(
        self, organization: str, queues: Queues, limit: int
    ) -> list[ListedWorker]:
        """Return workers, those that were heard of last first."""

    # API keys

    async def add_key(self, key: KeyRecord) -> None:
        """Keep a new API key."""

    async def revoke_key(self, organization: str, key_id: str) -> KeyRecord:
        """End a key now; one that was revoked before stays as it is. NOT_FOUND without one."""

    async def keys(self) -> list[KeyRecord]:
        """Return every key of every organization, oldest first, those that ended included."""

    async def list_keys(
        self, organization: str, after: tuple[int, str], limit: int
    ) -> list[KeyRecord]:
        """Return keys of an organization behind that of this time and id, oldest first."""

    async def count_keys(self, organization: str) -> tuple[int, int]:
        """Return how many keys there are, and how long the names of their queues are together."""

    # Audit

    async def note_audit(self, entries: Sequence[AuditEntry], uses: Mapping[str, int]) -> None:
        """Keep entries of the audit, up to so many of each kind, and when keys were last used."""

    async def list_audit(self, organization: str | None, before: int, limit: int) -> AuditPage:
        """Return entries of an organization, or of all, below this number, newest first."""

    # Maintenance

    async def sweep(self) -> int | None:
        """Release what is due, take back leases that ran out; return the next such moment."""

    async def recount(self) -> list[CounterMismatch]:
        """Return every counter that differs from a count over the jobs. Slow: for checks only."""
