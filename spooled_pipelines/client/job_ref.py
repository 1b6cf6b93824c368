"""A job, or its id with what proves that it is held: what settling calls take."""

from __future__ import annotations

from dataclasses import dataclass

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.types import Job


@dataclass(frozen=True)
class JobRef:
    """A job's id, who holds it, and by which lease (None: not known to the caller)."""

    job_id: str
    worker_id: str | None
    lease_id: str | None

    @property
    def has_lease(self) -> bool:
        """The lease goes with the call, so that doing it twice does it once."""
        return bool(self.lease_id)


def job_ref(job: Job | str, worker_id: str | None, lease_id: str | None) -> JobRef:
    """From a `Job` as it was claimed, or from an id; what is given by name wins."""
    if isinstance(job, Job):
        return JobRef(
            job.id,
            worker_id if worker_id is not None else job.assigned_worker_id,
            lease_id if lease_id is not None else job.lease_id,
        )
    if isinstance(job, str):
        return JobRef(job, worker_id, lease_id)
    raise InvalidArgumentError(f"a {type(job).__name__} is no job: pass a Job, or the id of one")


def completed_by_us(job: Job, held: JobRef, result: dict[str, object] | None) -> bool:
    """Whether a job that is completed already is so by our own call, whose answer was lost."""
    return (
        job.status == "completed"
        and job.assigned_worker_id in (held.worker_id, None)
        and (job.result or {}) == (result or {})
    )
