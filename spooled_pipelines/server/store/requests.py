"""What the operations of a store are asked for, as values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from spooled_pipelines.server.core.limits.queue_limits import QueueLimits
from spooled_pipelines.server.store.limits import ANSWER_BYTES

# Above the number of every batch and job.
NEWEST = 2**62


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """Who wants how many jobs of a queue, and for how long.

    At least one job comes, and others while their payloads are at most so many bytes. All get the
    lease of this id; without one, each gets a lease of its own.
    """

    queue_name: str
    worker_id: str
    lease_ms: int
    limit: int
    max_bytes: int = ANSWER_BYTES
    lease_id: str | None = None


@dataclass(frozen=True, slots=True)
class LostClaims:
    """Leases that a worker was given of a queue, and does not know of."""

    queue_name: str
    worker_id: str
    lease_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class BatchSelector:
    """A batch: its newest generation, or (for a cancel) all up to this one; None: all.

    The same call again, by its request id, goes on from where it was, and answers the same.
    """

    batch_id: str
    generation: int | None = None
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class QueueSelector:
    """A queue; the request id as of a batch."""

    queue_name: str
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class BatchJobs:
    """Jobs of a batch in these statuses (in any, where there are none) behind `after`."""

    batch_id: str
    statuses: Sequence[int]
    after: int
    limit: int
    omit_payload: bool = False


@dataclass(frozen=True, slots=True)
class JobSearch:
    """The same without payload and result; `text` is in the error, or is the id, key or worker.

    An empty text is in every job. At most `SEARCHED_MAX` jobs are looked at: a page may be empty
    and yet have an `after`.
    """

    batch_id: str
    statuses: Sequence[int]
    text: str
    after: int
    limit: int


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Dead letters of a queue behind `after`."""

    queue_name: str
    after: int
    limit: int


@dataclass(frozen=True, slots=True)
class JobListing:
    """Jobs of some queues (of all, for None) with a number below `before`, newest first.

    Without payload and result, but with `due_at`. `waiting`: only those that wait for a retry.
    `text` is as of `JobSearch`, and they were enqueued from `since` until before `until`. At most
    `LISTED_MAX` jobs are looked at: a page may be empty and yet have an `after`.
    """

    queues: Sequence[str] | None
    statuses: Sequence[int] = ()
    waiting: bool = False
    text: str = ""
    since: int = 0
    until: int = NEWEST
    before: int = NEWEST
    limit: int = 1_000


JobQuery = BatchJobs | JobSearch | DeadLetters | JobListing


@dataclass(frozen=True, slots=True)
class BatchListing:
    """Newest generations of batches of some queues (of all, for None), newest first.

    `text` is in their name, or is their id; an empty text is in every name. They began from `since`
    until before `until`, and have a number below `before`.
    """

    queues: Sequence[str] | None
    text: str = ""
    since: int = 0
    until: int = NEWEST
    before: int = NEWEST
    limit: int = 1_000


@dataclass(frozen=True, slots=True)
class KeyQuery:
    """Keys that jobs of a queue may have; `payloads`, one for each key or none, are compared."""

    queue_name: str
    keys: Sequence[str]
    payloads: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class ControlChange:
    """What is to hold a queue back from now on; None leaves it as it is."""

    paused: bool | None = None
    limits: QueueLimits | None = None
    # The same change a second time does nothing.
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class DeadWorker:
    """A worker whose process died, as `Death` says.

    `running` are the ids of the jobs that it ran, None if that is not known. Only what it held of
    these queues is meant; None: of all.
    """

    worker_id: str
    error: str
    exit_code: int
    queues: Collection[str] | None = None
    running: Collection[str] | None = None

    def ran(self, job_id: str) -> bool:
        """Return whether it may have run the job."""
        return self.running is None or job_id in self.running


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a worker says while it lives; `metadata` is JSON."""

    worker_id: str
    current_jobs: int
    status: str
    metadata: str


# Jobs are numbered in the order in which they are enqueued, but for those of servers side by side.
_DAY_MS = 86_400_000


def following(query: JobListing, number: int | None, last: tuple[int, int] | None) -> int | None:
    """Return where a listing goes on that found no more; None where it has come to its end.

    `number` is that of the only job that it was about, `last` the number of the last job that was
    looked at and when it was made.
    """
    if number is not None or last is None or last[1] < query.since - _DAY_MS:
        return None
    return last[0]
