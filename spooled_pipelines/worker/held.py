"""The jobs that this worker holds a lease of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from spooled_pipelines.types import Job
from spooled_pipelines.worker.outcome import Outcome


@dataclass(eq=False, slots=True)
class HeldJob:
    """A job from its claim until its outcome is acknowledged, or its lease is lost."""

    job: Job
    renew_at: float
    lease_ends: float
    outcome: Outcome | None = None
    lost: bool = False
    # How often its outcome was sent: an answer can get lost with the connection.
    sends: int = 0
    # When its handler began, None while it waits for a slot; what ends it, where that can be.
    began: float | None = None
    end: Callable[[], object] | None = None
    # What its handler is told by `job.cancelled`, and since when.
    cancelled: bool = False
    cancelled_at: float = 0.0

    def is_lost(self, now: float) -> bool:
        """Whether it is another's by now: said by the server, or by the clock (a worker can
        be stopped or suspended), so that a run would be for nothing."""
        return self.lost or now >= self.lease_ends

    @property
    def attempt(self) -> int:
        return self.job.retry_count + 1


class _Ended:
    """What a handler finds that outlasts its job."""

    cancelled = True


_ENDED = _Ended()


class Held:
    """The table of held jobs. A lease is renewed when a third of it has passed.

    Belongs to the event loop's thread; times are monotonic seconds.
    """

    def __init__(self, lease_seconds: int) -> None:
        self._lease = lease_seconds
        self._jobs: dict[int, HeldJob] = {}
        self.unfinished = 0
        # The same by queue.
        self.unfinished_of: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[HeldJob]:
        return iter(list(self._jobs.values()))

    def add(self, job: Job, claimed_at: float) -> HeldJob:
        held = HeldJob(job, claimed_at + self._lease / 3, claimed_at + self._lease)
        job.run_by(held)
        # Not by job id: a job whose lease was lost can come back while its old run still runs.
        self._jobs[id(held)] = held
        self.unfinished += 1
        self.unfinished_of[job.queue_name] += 1
        return held

    def finish(self, held: HeldJob, outcome: Outcome) -> None:
        """The handler is through; the outcome still has to get to the server."""
        if held.outcome is None:
            self._count_finished(held)
        held.outcome = outcome

    def remove(self, held: HeldJob) -> None:
        if self._jobs.pop(id(held), None) is None:
            return
        if held.outcome is None:
            self._count_finished(held)
        # Without the circle of job and run, both are gone as soon as nobody needs them; a handler
        # that was told to end may still look.
        held.job.run_by(_ENDED if held.cancelled else None)

    def due(self, now: float) -> list[HeldJob]:
        """Whose lease has to be renewed now: not finished, not lost."""
        return [
            held
            for held in self._jobs.values()
            if held.renew_at <= now and held.outcome is None and not held.lost
        ]

    def renewed(self, held: HeldJob, now: float) -> None:
        held.renew_at = now + self._lease / 3
        held.lease_ends = now + self._lease

    def _count_finished(self, held: HeldJob) -> None:
        self.unfinished -= 1
        self.unfinished_of[held.job.queue_name] -= 1
