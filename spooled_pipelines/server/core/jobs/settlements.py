"""How jobs that are leased end: what a worker says of them, and what the store answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from spooled_pipelines.server.core.errors import RefusedError


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

    `others`: how many other jobs it ran, any of which may have killed it.
    """

    error: str
    exit_code: int
    others: int


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
