"""Batches, their uploads and chunks, as a store takes them in and gives them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from spooled_pipelines.server.core.jobs.records import Counts, WaitingError
from spooled_pipelines.server.core.limits.queue_limits import LimitedBy


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
    # The name that the keys of its rows are made of, which must be the queue's; empty: any.
    key_name: str = ""


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


# The most runs of chunks in the answer to a client that opens an upload again.
CHUNK_RANGES_MAX = 1_000


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


class BatchPage(NamedTuple):
    """Some batches; `before` is the number to go on below, None at the end."""

    batches: list[BatchRecord]
    before: int | None
