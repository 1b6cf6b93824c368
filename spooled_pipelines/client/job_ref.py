"""References to a claimed job, for the calls that settle it."""

from __future__ import annotations

from dataclasses import dataclass

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.types import Job


@dataclass(frozen=True)
class JobRef:
    """A job's id, the worker that holds it, and the lease (None if the caller does not know)."""

    job_id: str
    worker_id: str | None
    lease_id: str | None

    @property
    def has_lease(self) -> bool:
        """Whether the call carries the lease, which makes it idempotent."""
        return bool(self.lease_id)


def job_ref(job: Job | str, worker_id: str | None, lease_id: str | None) -> JobRef:
    """Return a reference to a claimed `Job`, or to an id; explicit arguments take precedence."""
    if isinstance(job, Job):
        return JobRef(
            job.id,
            worker_id if worker_id is not None else job.assigned_worker_id,
            lease_id if lease_id is not None else job.lease_id,
        )
    if isinstance(job, str):
        return JobRef(job, worker_id, lease_id)
    raise InvalidArgumentError(f"job must be a Job or the id of one, got {type(job).__name__}")


def completed_by_us(job: Job, held: JobRef, result: dict[str, object] | None) -> bool:
    """Return whether a completed job was completed by our own call, whose response was lost."""
    return (
        job.status == "completed"
        and job.assigned_worker_id in (held.worker_id, None)
        and (job.result or {}) == (result or {})
    )
