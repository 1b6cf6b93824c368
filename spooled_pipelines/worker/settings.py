"""What a worker is told, as one immutable value."""

from __future__ import annotations

import os
import re
import secrets
import socket
from dataclasses import dataclass

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.wire import limits

CONCURRENCY_MAX = 10_000


@dataclass(frozen=True)
class WorkerSettings:
    """How one worker works; checked when made.

    Attributes:
        queue_name: the queue that jobs are taken from.
        worker_id: how the server and the logs call this worker.
        concurrency: handlers that run at once.
        lease_seconds: how long a job stays this worker's without a sign of life (5 to 3600).
            Renewed when a third of it has passed.
        grace_seconds: how long a stopping worker waits for running handlers and for their results
            to arrive. The default ends before Kubernetes' 30 seconds do.
        idle_seconds: the longest pause between two questions to an empty queue.
        stop_when_empty: end once the queue has no job that is due and all that was taken is done.
    """

    queue_name: str
    worker_id: str
    concurrency: int = 8
    lease_seconds: int = 30
    grace_seconds: float = 25.0
    idle_seconds: float = 1.0
    stop_when_empty: bool = False

    def __post_init__(self) -> None:
        _check(
            len(self.queue_name) <= limits.QUEUE_NAME_MAX
            and limits.NAME_PATTERN.fullmatch(self.queue_name) is not None,
            f"queue_name {self.queue_name!r} is not a queue's name: 1 to {limits.QUEUE_NAME_MAX} "
            "of A-Z a-z 0-9 . _ - and not starting with . or -",
        )
        _check(
            len(self.worker_id) <= limits.WORKER_ID_MAX
            and limits.WORKER_ID_PATTERN.fullmatch(self.worker_id) is not None,
            f"worker_id {self.worker_id!r} is not a worker's id: 1 to {limits.WORKER_ID_MAX} "
            "of A-Z a-z 0-9 . _ -",
        )
        _check(
            1 <= self.concurrency <= CONCURRENCY_MAX,
            f"concurrency {self.concurrency} is not within 1 to {CONCURRENCY_MAX}",
        )
        _check(
            limits.LEASE_SECONDS_MIN <= self.lease_seconds <= limits.LEASE_SECONDS_MAX,
            f"lease_seconds {self.lease_seconds} is not within {limits.LEASE_SECONDS_MIN} "
            f"to {limits.LEASE_SECONDS_MAX}",
        )
        _check(self.grace_seconds >= 0, f"grace_seconds {self.grace_seconds} is below 0")
        _check(self.idle_seconds > 0, f"idle_seconds {self.idle_seconds} is not above 0")


def make_worker_id() -> str:
    """`HOST-PID-RANDOM`: tells people where it runs, and never meets its like."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:80] or "worker"
    return f"{host}-{os.getpid()}-{secrets.token_hex(3)}"


def _check(right: bool, message: str) -> None:
    if not right:
        raise InvalidArgumentError(message)
