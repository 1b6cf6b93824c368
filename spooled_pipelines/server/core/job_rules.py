"""What a lease allows and what its end means, decided without I/O: the same for every store."""

from __future__ import annotations

from typing import Protocol

from spooled_pipelines.server.core.errors import (
    LEASE_EXPIRED,
    LEASE_MISMATCH,
    RefusedError,
    conflict,
)
from spooled_pipelines.server.core.records import Holder, Status

_SETTLED = (Status.COMPLETED, Status.FAILED, Status.DEADLETTER, Status.CANCELLED)
_LONGEST_DELAY_MINUTES = 60
_ERROR_GROUP_CHARACTERS = 200


class Leasable(Protocol):
    """What has to be known of a job."""

    @property
    def status(self) -> int: ...
    @property
    def worker_id(self) -> str | None: ...
    @property
    def lease_id(self) -> str | None: ...
    @property
    def lease_expires_at(self) -> int | None: ...


def why_not_held(job: Leasable, holder: Holder, now: int) -> RefusedError | None:
    """Why the job is not the holder's to settle; None where it is."""
    if job.status in _SETTLED:
        return conflict(f"Job is already {Status.NAMES[job.status]}")
    if holder.lease_id and holder.lease_id != job.lease_id:
        return conflict(f"lease_id {LEASE_MISMATCH}")
    if job.status != Status.PROCESSING:
        if holder.lease_id:
            return conflict(LEASE_EXPIRED)
        return conflict(f"Job is {Status.NAMES[job.status]}: claim it before you settle it")
    if holder.worker_id and holder.worker_id != job.worker_id:
        return conflict(f"worker_id {LEASE_MISMATCH}")
    if job.lease_expires_at is None or job.lease_expires_at <= now:
        return conflict(LEASE_EXPIRED)
    return None


def retry_delay_seconds(retry_count: int) -> int:
    """How long a job waits after it failed; `retry_count` is how often it was retried before."""
    return int(60 * min(2 ** min(retry_count, 30), _LONGEST_DELAY_MINUTES))


def expiry_error(worker_id: str | None) -> str:
    """What a job keeps as its error when its lease ran out."""
    return f"Lease expired: worker {worker_id} did not settle the job in time"


def error_group(error: str) -> str:
    """Errors that begin alike are counted together."""
    return error[:_ERROR_GROUP_CHARACTERS]
