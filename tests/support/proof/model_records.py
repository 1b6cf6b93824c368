"""The jobs and batches of the model, and what can be told of them by looking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from spooled_pipelines.server.core.jobs.records import AttemptRecord, Counts, NewJob, Status
from spooled_pipelines.server.core.jobs.rules import HELD
from spooled_pipelines.server.core.jobs.settlements import Ending
from tests.support.proof.model_limits import Topic
from tests.support.proof.model_turns import Line

SETTLED = (Status.COMPLETED, Status.FAILED, Status.DEADLETTER, Status.CANCELLED)


class RefusalError(Exception):
    """The store should refuse with this code, and this text in the message."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, text)
        self.code, self.text = code, text


@dataclass(eq=False)
class Job:
    """A job. Its number orders it by age."""

    organization: str
    number: int
    asked: NewJob
    created_at: int
    due_at: int | None
    status: int
    # Claims of one priority go by it, then by age.
    round: int = 0
    # The batch with which it takes turns: that made it, or was handed it.
    own: Batch | None = None
    # With what it takes turns in place of its batch.
    fair_key: int | None = None
    # Of which so many run at once; until one may, it is pending and `HELD`.
    limit_key: int | None = None
    # Made by a row of a batch, and so gone with the last batch that it is in.
    is_row: bool = False
    batches: set[Batch] = field(default_factory=set)
    attempts: list[AttemptRecord] = field(default_factory=list)
    # Forgotten altogether; its payload, result and tags alone.
    is_gone: bool = False
    is_stripped: bool = False
    stripped_payload: bytes = b""
    job_id: str = ""
    retry_count: int = 0
    deliveries: int = 0
    run_alone: int = 0
    started_at: int | None = None
    completed_at: int | None = None
    lease_expires_at: int | None = None
    worker_id: str | None = None
    lease_id: str | None = None
    last_error: str | None = None
    result: bytes | None = None
    expires_at: int | None = None

    def is_late(self, now: int) -> bool:
        """Whether it may not begin any longer."""
        return self.expires_at is not None and self.expires_at <= now

    @property
    def is_expired(self) -> bool:
        """Whether it was cancelled since it had not begun in time."""
        ended = self.completed_at if self.status == Status.CANCELLED else None
        return ended is not None and self.is_late(ended)

    @property
    def claimable(self) -> bool:
        return self.status == Status.PENDING and self.due_at is None

    @property
    def in_line(self) -> bool:
        """Whether it can be claimed, or could if its key had a place."""
        return self.status == Status.PENDING and self.due_at in (None, HELD)

    @property
    def topic(self) -> Topic:
        return self.organization, self.asked.queue_name

    @property
    def turn(self) -> tuple[int, int, int]:
        """By which claims go: highest priority first, then by rounds, then oldest."""
        return -self.asked.priority, self.round, self.number

    @property
    def line(self) -> Line:
        return self.organization, self.asked.queue_name, self.asked.priority

    @property
    def weight(self) -> int:
        return 1 if self.own is None else self.own.weight

    @property
    def history(self) -> list[AttemptRecord]:
        """The deliveries that ended otherwise, then the one that runs or completed."""
        if self.status not in (Status.PROCESSING, Status.COMPLETED) or self.started_at is None:
            return self.attempts
        ending = Ending.COMPLETED if self.status == Status.COMPLETED else None
        last = (len(self.attempts) + 1, self.worker_id, self.started_at, self.completed_at, ending)
        return [*self.attempts, AttemptRecord(*last, None, None)]


@dataclass(eq=False)
class Batch:
    """A generation of a batch: the jobs that its rows are."""

    queue_name: str
    name: str
    generation: int
    created_at: int
    changed_at: int
    # Orders batches by age.
    number: int = 0
    weight: int = 1
    limit_by: str = ""
    limit_per_key: int = 0
    used_at: int = 0
    sealed: bool = False
    errors: Counter[str] = field(default_factory=Counter)
    # Each part that has begun: whether it is finished, and its rows.
    parts: dict[str, tuple[bool, int]] = field(default_factory=dict)
    # What each chunk became, until the batch is sealed.
    outcomes: dict[tuple[str, int], list[Row]] = field(default_factory=dict)
    changed: int = 0
    replaced: int = 0


class Row(NamedTuple):
    """What became of a row: its job, and whether the row made it, or had another payload."""

    job: Job
    created: bool
    changed: bool = False
    replaced: bool = False


def counted(jobs: Iterable[Job]) -> Counts:
    """The counters, counted."""
    known = list(jobs)
    found = Counter(job.status for job in known)
    waiting = sum(job.status == Status.PENDING and job.due_at is not None for job in known)
    expired = sum(job.is_expired for job in known)
    others = (found[status] for status in range(2, 8))
    return Counts._make((found[1], waiting, *others, expired))


def moments(jobs: Iterable[Job]) -> list[int]:
    """When something becomes due: a job, a retry, the end of a lease, the time to start."""
    found = []
    for job in jobs:
        waits = job.status in (Status.PENDING, Status.SCHEDULED)
        due = None if job.due_at == HELD else job.due_at
        each = (due, job.lease_expires_at, job.expires_at if waits else None)
        known = [moment for moment in each if moment is not None]
        found += [min(known)] if known else []
    return found
