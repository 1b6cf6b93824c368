"""The settings of a worker, as one immutable value."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.wire import limits

CONCURRENCY_MAX = 10_000
PROCESSES_MAX = 256

Executor: TypeAlias = Literal["thread", "process"]


@dataclass(frozen=True)
class QueueShare:
    """One of the queues of a worker.

    Attributes:
        name: the queue's name.
        weight: while several queues have jobs, each gets slots in this proportion.
        concurrency: at most so many of its jobs at once; None: as many as the worker runs.
    """

    name: str
    weight: float = 1.0
    concurrency: int | None = None

    def __post_init__(self) -> None:
        _check(
            len(self.name) <= limits.QUEUE_NAME_MAX
            and limits.NAME_PATTERN.fullmatch(self.name) is not None,
            f"queue_name must be 1 to {limits.QUEUE_NAME_MAX} of A-Z a-z 0-9 . _ - and not start "
            f"with . or -, got {self.name!r}",
        )
        _check(
            0 < self.weight <= 1e6,
            f"weight of {self.name} must be above 0 and at most 1000000, got {self.weight}",
        )
        _check(
            self.concurrency is None or 1 <= self.concurrency <= CONCURRENCY_MAX,
            f"concurrency of {self.name} must be 1 to {CONCURRENCY_MAX}, got {self.concurrency}",
        )


QueuesOption: TypeAlias = str | QueueShare | Sequence[str | QueueShare] | Mapping[str, float]


def queues_from(given: QueuesOption) -> tuple[QueueShare, ...]:
    """Return the queues of a name, of several, or of a mapping from name to weight.

    Raises:
        InvalidArgumentError: there is none, one comes twice, or something is outside its limits.
    """
    if isinstance(given, str | QueueShare):
        given = [given]
    if isinstance(given, Mapping):
        shares = tuple(QueueShare(name, weight) for name, weight in given.items())
    else:
        shares = tuple(QueueShare(each) if isinstance(each, str) else each for each in given)
    _check(bool(shares), "queue_name must name a queue to take from, got none")
    names = [share.name for share in shares]
    twice = next((name for name in names if names.count(name) > 1), None)
    _check(twice is None, f"queue_name must name each queue once, got {twice!r} twice")
    return shares


@dataclass(frozen=True)
class WorkerSettings:
    """How one worker works; checked when made.

    Attributes:
        queues: the queues that jobs are taken from.
        worker_id: the worker's name for the server and in the logs.
        concurrency: handlers that run at once.
        lease_seconds: how long a job stays with this worker without a sign of life (5 to 3600).
            The lease is renewed when a third of it has passed.
        grace_seconds: how long a stopping worker waits for running handlers and for their results
            to arrive. The default ends before Kubernetes' 30 seconds do.
        idle_seconds: the longest pause between two requests to an empty queue.
        stop_when_empty: end once no queue has a job that is due and all that was taken is done. A
            pause or a limit of a queue is waited for while it holds back such jobs.
        executor: where plain handlers run: on threads, or in processes of their own.
        rate: at most so many jobs are begun a second; None: as fast as they come.
        running_log: a descriptor of a file in which the ids of the jobs that run are noted.
        jobs_per_call: how many jobs one call of the handler takes at most.
    """

    queues: tuple[QueueShare, ...]
    worker_id: str
    concurrency: int = 8
    lease_seconds: int = 30
    grace_seconds: float = 25.0
    idle_seconds: float = 1.0
    stop_when_empty: bool = False
    executor: Executor = "thread"
    rate: float | None = None
    running_log: int | None = None
    jobs_per_call: int = 1

    @property
    def queue_names(self) -> str:
        """The queues' names in one text, for people."""
        return ", ".join(share.name for share in self.queues)

    @property
    def slots(self) -> int:
        """Jobs that can be in hand at once."""
        return self.concurrency * self.jobs_per_call

    def __post_init__(self) -> None:
        _check(
            len(self.worker_id) <= limits.WORKER_ID_MAX
            and limits.WORKER_ID_PATTERN.fullmatch(self.worker_id) is not None,
            f"worker_id must be 1 to {limits.WORKER_ID_MAX} of A-Z a-z 0-9 . _ -, "
            f"got {self.worker_id!r}",
        )
        _check(
            1 <= self.concurrency <= CONCURRENCY_MAX,
            f"concurrency must be 1 to {CONCURRENCY_MAX}, got {self.concurrency}",
        )
        _check(
            limits.LEASE_SECONDS_MIN <= self.lease_seconds <= limits.LEASE_SECONDS_MAX,
            f"lease_seconds must be {limits.LEASE_SECONDS_MIN} to {limits.LEASE_SECONDS_MAX}, "
            f"got {self.lease_seconds}",
        )
        _check(
            self.grace_seconds >= 0, f"grace_seconds must be 0 or more, got {self.grace_seconds}"
        )
        _check(
            self.executor in ("thread", "process"),
            f"executor must be 'thread' or 'process', got {self.executor!r}",
        )
        _check(
            self.executor == "thread" or self.concurrency <= PROCESSES_MAX,
            f"concurrency must be 1 to {PROCESSES_MAX} processes, got {self.concurrency}",
        )
        _check(self.rate is None or self.rate > 0, f"rate must be above 0, got {self.rate}")
        _check(self.idle_seconds > 0, f"idle_seconds must be above 0, got {self.idle_seconds}")


def make_worker_id() -> str:
    """Return `HOST-PID-RANDOM`: it says where the worker runs, and is unique."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:80] or "worker"
    return f"{host}-{os.getpid()}-{secrets.token_hex(3)}"


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise InvalidArgumentError(message)
