# Generated from spooled_pipelines/batch/aio/backend.py by `make generate`: do not edit.
"""The interface between a batch and its server, with an implementation for each kind of server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

from spooled_pipelines.batch.options.row_options import (
    NEEDS_BACKOFF,
    NEEDS_EXPIRY,
    NEEDS_TURNS,
    OnRerun,
)
from spooled_pipelines.batch.parts import AddedPart, BatchPart
from spooled_pipelines.batch.record import BatchRecord
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc.sync.connection import Connection
from spooled_pipelines.types import BatchStats, CancelResult, Job, QueueStats
from spooled_pipelines.wire import batch_v1, spooled_v1

if TYPE_CHECKING:
    from spooled_pipelines.batch.display.progress import Progress
    from spooled_pipelines.batch.outcome.job_results import ResultStore
    from spooled_pipelines.batch.outcome.known_types import KnownTypes
    from spooled_pipelines.batch.outcome.ledger import Ledger
    from spooled_pipelines.batch.staging.chunks import Chunk
    from spooled_pipelines.batch.staging.idempotency import KeyScope
    from spooled_pipelines.batch.staging.staged_batch import StagedBatch

Ability: TypeAlias = Literal[
    "keeps_batches", "supports_cancel", "supports_retry", "supports_generations"
]


class JobVisitor(Protocol):
    """Receives jobs one by one, as they are on the wire."""

    def add(self, job: spooled_v1.Job, /) -> object: ...


@dataclass(frozen=True)
class BatchStart:
    """A batch at the moment before rows are sent to it.

    Attributes:
        generation: the generation that the rows belong to; None if the server has none.
        existed: whether the batch was there already.
        retried: dead letters that were retried.
        queue_before: the queue's statistics, if the server keeps none of batches.
    """

    generation: int | None = None
    existed: bool = False
    retried: int = 0
    queue_before: QueueStats | None = None


class ExistingRows(NamedTuple):
    """The rows of a chunk that are jobs already, and those of them with another payload."""

    found: list[int]
    changed: list[int]


@dataclass(frozen=True)
class Upload:
    """The rows of one staged batch on their way.

    Attributes:
        ledger: gets what is acknowledged, as it comes.
        on_rerun: what is done with the jobs that are there.
        max_outstanding: how many jobs of the batch may be open at once.
    """

    staged: StagedBatch
    ledger: Ledger
    progress: Progress
    generation: int
    on_rerun: OnRerun = "resume"
    max_outstanding: int | None = None


class Uploader(ABC):
    """Sends the rows of one staged batch."""

    @abstractmethod
    def run(self) -> None:
        """Send every row. What is acknowledged goes into the ledger as it comes."""


class BatchBackend(ABC):
    """What batches need of a server.

    Attributes:
        keeps_batches: the server knows which jobs belong to a batch, so that its id is enough to
            watch it; otherwise the client has to know the jobs, or at least the queue.
        supports_cancel: what has not started of a batch can be cancelled.
        supports_retry: dead letters can be listed, searched and retried.
        supports_generations: a batch can begin again with new jobs (`on_rerun="fresh"`).
    """

    keeps_batches: bool
    supports_cancel: bool
    supports_retry: bool
    supports_generations: bool

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def require(self, ability: Ability, what: str) -> None:
        """Raise InvalidArgumentError if `what` needs an ability that the server does not have."""
        if not getattr(self, ability):
            raise InvalidArgumentError(
                f"{what} needs a server with the batch extension, and the one at "
                f"{self.connection.settings.name} keeps no batches: there every job is on its own"
            )

    def require_for(self, staged: StagedBatch) -> None:
        """Raise InvalidArgumentError if the rows need what the server does not have."""
        if staged.on_changed != "keep":
            self.require("keeps_batches", f'on_changed="{staged.on_changed}"')
        if staged.no_retries:
            # In spooled.v1 0 is what is not said, and means the default.
            self.require("keeps_batches", "max_retries=0 (no retries)")
        if staged.constants.retry_backoff or staged.has_row_backoffs:
            self.require("keeps_batches", NEEDS_BACKOFF)
        if staged.constants.weight or any(staged.constants.key_columns):
            self.require("keeps_batches", NEEDS_TURNS)
        if staged.constants.expires_at is not None or staged.has_row_expiry:
            self.require("keeps_batches", NEEDS_EXPIRY)

    @abstractmethod
    def start(self, batch_id: str, queue_name: str, on_rerun: OnRerun) -> BatchStart:
        """Return the generation to send, and what has to be known before the first row is sent."""

    @abstractmethod
    def uploader(self, upload: Upload) -> Uploader:
        """Return what sends the rows."""

    @abstractmethod
    def existing(self, queue_name: str, chunk: Chunk) -> ExistingRows | None:
        """Return which rows of a chunk are jobs already; None if that cannot be asked."""

    @abstractmethod
    def stats(self, record: BatchRecord, timeout: float | None = None) -> BatchStats:
        """Return the statistics of a batch."""

    @abstractmethod
    def stats_of(
        self, records: Sequence[BatchRecord], timeout: float | None = None
    ) -> list[BatchStats]:
        """Return the statistics of several batches, in this order."""

    @abstractmethod
    def watch(self, record: BatchRecord, deadline: float | None) -> Generator[BatchStats, None]:
        """Yield the statistics whenever they change, until the deadline (as `monotonic` reads)."""

    @abstractmethod
    def each_job(
        self, record: BatchRecord, visitor: JobVisitor, *, omit_payload: bool = True
    ) -> None:
        """Pass every job of the batch to the visitor; its payload may be there all the same."""

    def results(
        self, record: BatchRecord, store: ResultStore, *, omit_payload: bool = True
    ) -> None:
        """Put what became of every job of the batch into the store."""
        self.each_job(record, store, omit_payload=omit_payload)

    def job_columns(
        self, record: BatchRecord, after: int, *, omit_payload: bool
    ) -> Generator[batch_v1.JobColumns, None]:
        """Yield the jobs of the batch behind a place, in their order, if the server keeps batches.

        Those that are not settled are among them.
        """
        raise NotImplementedError

    def result_types(self, record: BatchRecord) -> KnownTypes:  # noqa: ARG002
        """Return the types of the results, as far as they are kept with the batch."""
        from spooled_pipelines.batch.outcome.known_types import NOTHING_KNOWN

        return NOTHING_KNOWN

    def table_types(self, schemas: Mapping[int, str]) -> KnownTypes:  # noqa: ARG002
        """Return the types of payloads with these schemas, each with one of its jobs."""
        from spooled_pipelines.batch.outcome.known_types import NOTHING_KNOWN

        return NOTHING_KNOWN

    @abstractmethod
    def open(self, scope: KeyScope, on_rerun: OnRerun) -> BatchStart:
        """Create a batch that comes in parts, or find it."""

    @abstractmethod
    def parts(self, batch_id: str, added: Mapping[str, AddedPart]) -> list[BatchPart]:
        """Return the parts that have begun, ordered by id; `added` are those this client added."""

    @abstractmethod
    def seal(
        self,
        batch_id: str,
        generation: int,
        *,
        added: Mapping[str, AddedPart] | None = None,
        count: int | None = None,
        part_ids: Sequence[str] = (),
        rows_id: str = "",
    ) -> None:
        """Seal a batch of `count` parts, of these parts, or of those that have begun.

        With `rows_id` it counts for the upload of these rows: others that go on hold it back.

        Raises:
            PartsMissingError: some parts are missing.
        """

    def cancel(self, batch_id: str, generation: int | None = None) -> CancelResult:
        """Cancel what has not started, of generations up to this one (`supports_cancel`)."""
        raise NotImplementedError

    def retry(self, batch_id: str, error_contains: str = "", cancelled: bool = False) -> int:
        """Retry dead letters, and cancelled jobs; return how many (`supports_retry`)."""
        raise NotImplementedError

    def dead_letters(
        self, batch_id: str, visitor: JobVisitor, *, omit_payload: bool = True
    ) -> None:
        """Pass every dead letter of the batch to the visitor (`supports_retry`)."""
        raise NotImplementedError

    def revise(self, revisions: Iterable[batch_v1.DeadLetterRevision]) -> int:
        """Apply the revisions and return how many took effect (`supports_retry`).

        Jobs that are no longer dead letters are skipped.
        """
        raise NotImplementedError

    def find_jobs(self, batch_id: str, text: str, statuses: Iterable[str], limit: int) -> list[Job]:
        """Return the first `limit` jobs with this text, of these statuses (`supports_retry`)."""
        raise NotImplementedError

    def finish_part(
        self, batch_id: str, generation: int, part_id: str, rows: int, rows_id: str
    ) -> None:
        """Record that the last row of a part was sent (`keeps_batches`)."""
        raise NotImplementedError
