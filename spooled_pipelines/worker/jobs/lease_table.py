"""The jobs that this worker holds a lease of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from spooled_pipelines.types import Job
from spooled_pipelines.worker.jobs.context import JobContext
from spooled_pipelines.worker.jobs.leased_chunk import ChunkJobContext, LeasedChunk
from spooled_pipelines.worker.jobs.outcome import Outcome

# An event loop in which the watchdog has not run for so long hangs.
HANGING_SECONDS = 30.0
# And one in which it has not run for so long is blocked: it runs four times a second.
_BLOCKED_SECONDS = 1.0


@dataclass(eq=False, slots=True)
class LeasedJob:
    """A job from its claim until its outcome is acknowledged or its lease is lost.

    Attributes:
        context: what its handler gets.
        renew_at, expires_at: of the lease, in monotonic seconds.
        chunk, index: with which others it came, and its place there; None: it came alone.
        outcome: what its handler came to, or what was decided for it.
        lost: whether the server said that the lease is gone.
        sends: how often the outcome was sent; an answer can get lost with the connection.
        started_at: when its handler began, None while it waits for a slot.
        interrupt: ends the handler, where that is possible.
        cancelled_at: when the handler was told to end.
    """

    context: JobContext
    renew_at: float
    expires_at: float
    chunk: LeasedChunk | None = None
    index: int = 0
    outcome: Outcome | None = None
    lost: bool = False
    sends: int = 0
    started_at: float | None = None
    interrupt: Callable[[], object] | None = None
    cancelled_at: float = 0.0

    @property
    def job(self) -> Job:
        return self.context.job

    @property
    def schema_number(self) -> int:
        """What the server calls the schema of the job's table; 0: it has none."""
        schema = self.context.schema
        return 0 if schema is None else schema.number

    # What follows does not decode the job of a chunk.

    @property
    def job_id(self) -> str:
        return self.job.id if self.chunk is None else self.chunk.job_ids[self.index]

    @property
    def queue_name(self) -> str:
        return self.job.queue_name if self.chunk is None else self.chunk.queue_name

    @property
    def timeout_seconds(self) -> int:
        chunk = self.chunk
        return self.job.timeout_seconds if chunk is None else chunk.timeout_seconds[self.index]

    @property
    def attempt(self) -> int:
        chunk = self.chunk
        return 1 + (self.job.retry_count if chunk is None else chunk.retry_counts[self.index])

    @property
    def cancelled(self) -> bool:
        return self.context.cancelled

    def cancel(self, now: float) -> None:
        """Tell the handler to end."""
        self.context.cancel()
        self.cancelled_at = now

    def is_within_time(self, now: float) -> bool:
        """Return whether the handler runs, and no longer than the job's `timeout_seconds`."""
        limit = self.timeout_seconds or math.inf
        runs = self.started_at is not None and self.outcome is None
        return runs and now < (self.started_at or 0.0) + limit

    def has_lost_lease(self, now: float) -> bool:
        """Return whether the lease is gone: by the server's word, or by the clock.

        A worker can be stopped or suspended; a run after that would be for nothing.
        """
        return self.lost or now >= self.expires_at


class LeaseTable:
    """The leased jobs, and when to renew: each time a third of the lease has passed.

    Belongs to the event loop's thread, except `due` and `renewed`, which are for the thread that
    renews; times are monotonic seconds.
    """

    def __init__(self, lease_seconds: int) -> None:
        self._lease = lease_seconds
        # When the event loop last looked at its jobs; the watchdog notes it.
        self.watched_at = math.inf
        self._jobs: dict[int, LeasedJob] = {}
        self.unfinished = 0
        # Of the payloads of chunks.
        self.payload_bytes = 0
        self.unfinished_by_queue: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[LeasedJob]:
        return iter(list(self._jobs.values()))

    def add(self, job: Job, claimed_at: float) -> LeasedJob:
        """Enter a job that was claimed at that time."""
        leased = LeasedJob(JobContext(job), claimed_at + self._lease / 3, claimed_at + self._lease)
        # Not by job id: a job whose lease was lost can come back while its old run still runs.
        self._jobs[id(leased)] = leased
        self.unfinished += 1
        self.unfinished_by_queue[job.queue_name] += 1
        return leased

    def add_chunk(self, chunk: LeasedChunk, claimed_at: float) -> list[LeasedJob]:
        """Enter the jobs of a chunk that was claimed at that time."""
        renew_at, expires_at = claimed_at + self._lease / 3, claimed_at + self._lease
        jobs = [
            LeasedJob(ChunkJobContext(chunk, index), renew_at, expires_at, chunk, index)
            for index in range(len(chunk))
        ]
        self._jobs.update(zip(map(id, jobs), jobs, strict=True))
        self.unfinished += len(jobs)
        self.unfinished_by_queue[chunk.queue_name] += len(jobs)
        self.payload_bytes += chunk.payload_bytes
        return jobs

    def finish(self, ended: Iterable[tuple[LeasedJob, Outcome | None]]) -> list[LeasedJob]:
        """Note outcomes, which still have to get to the server; return the jobs that have one.

        A job that is lost gets none, and one that has an outcome gets the other.
        """
        undecided: list[LeasedJob] = []
        finished: list[LeasedJob] = []
        for leased, outcome in ended:
            if outcome is not None and not leased.lost:
                if leased.outcome is None:
                    undecided.append(leased)
                leased.outcome = outcome
                finished.append(leased)
        self._count_finished(undecided)
        return finished

    def remove(self, jobs: Iterable[LeasedJob]) -> None:
        """Drop jobs that are settled or lost. May be repeated."""
        undecided: list[LeasedJob] = []
        for leased in jobs:
            if self._jobs.pop(id(leased), None) is None:
                continue
            if leased.outcome is None:
                undecided.append(leased)
            chunk = leased.chunk
            if chunk is not None:
                chunk.held -= 1
                if not chunk.held:
                    self.payload_bytes -= chunk.payload_bytes
        self._count_finished(undecided)

    def due(self, now: float) -> list[LeasedJob]:
        """Return the jobs whose lease has to be renewed now: not lost, and not finished.

        While the event loop is blocked, no outcome is sent, so finished jobs keep their leases too.
        Nor does anything end a handler whose time is over: then its lease runs out, and so do those
        of the jobs that wait behind it.
        """
        jobs = list(self._jobs.values())
        blocked = now - self.watched_at
        if blocked > HANGING_SECONDS and not any(job.is_within_time(now) for job in jobs):
            return []
        return [
            leased
            for leased in jobs
            if leased.renew_at <= now
            and not leased.lost
            and (leased.outcome is None or blocked > _BLOCKED_SECONDS)
        ]

    def renewed(self, leased: LeasedJob, now: float) -> None:
        """Note that the server renewed the lease at that time."""
        leased.renew_at = now + self._lease / 3
        leased.expires_at = now + self._lease

    def _count_finished(self, jobs: Sequence[LeasedJob]) -> None:
        self.unfinished -= len(jobs)
        self.unfinished_by_queue.subtract(leased.queue_name for leased in jobs)
