"""What operators do to the model: cancel, retry, purge, redrive, and forget what is old."""

from __future__ import annotations

from collections.abc import Iterable

from spooled_pipelines.server.core.jobs.records import Counts, Status
from spooled_pipelines.server.core.upkeep.retention import Retention
from tests.support.proof.model import Model
from tests.support.proof.model_records import SETTLED, Batch, Job, RefusalError, counted

_DONE = (Status.COMPLETED, Status.CANCELLED)


def cancel_batch(model: Model, organization: str, batch_id: str, generation: int | None) -> Counts:
    """Cancel what has not started, of generations up to this; their counters then."""
    generations = model.generations.get((organization, batch_id))
    if not generations:
        raise RefusalError("NOT_FOUND", f"there is no batch {batch_id!r}")
    meant = [one for one in generations if generation is None or one.generation <= generation]
    for batch in meant:
        _cancel(
            model,
            (
                job
                for job in model.of(organization, batch=batch)
                if job.status in (Status.PENDING, Status.SCHEDULED)
            ),
        )
    counters = [counted(model.of(organization, batch=batch)) for batch in meant]
    return Counts(*map(sum, zip(*counters, strict=True))) if counters else counted(())


def purge_queue(model: Model, organization: str, queue_name: str) -> int:
    """Cancel what is pending; returns how many."""
    jobs = model.of(organization, queue_name)
    return _cancel(model, (job for job in jobs if job.status == Status.PENDING))


def retry_batch(model: Model, organization: str, batch_id: str, error_contains: str) -> int:
    """Put dead letters back; returns how many."""
    batch = model.batch(organization, batch_id)
    return _revive(model, model.of(organization, batch=batch), error_contains)


def redrive(model: Model, organization: str, queue_name: str, error_contains: str) -> int:
    """The same, of a queue."""
    return _revive(model, model.of(organization, queue_name), error_contains)


def prune(model: Model, retention: Retention) -> None:
    """Forget whatever is too old, until there is no more of it."""
    settled, keys, batches, dead = (
        -1 if seconds is None else model.now - int(seconds * 1000)
        for seconds in (
            retention.settled,
            retention.keys,
            retention.batches,
            retention.dead_letters,
        )
    )
    for job in model.jobs:
        if job.status in _DONE and _at(job) <= settled:
            if not job.is_stripped:
                job.stripped_payload = job.asked.payload
            job.is_stripped, job.result = True, None
            job.asked = job.asked._replace(payload=b"", tags=None)
    for key, generations in model.generations.items():
        while generations and _is_old(model, key[0], generations, batches, dead):
            _forget(model, key[0], generations.pop(0))
    for job in list(model.jobs):
        is_old = (job.is_stripped and _at(job) <= keys) or (
            job.status == Status.DEADLETTER and _at(job) <= dead
        )
        if is_old and not job.batches:
            _remove(model, job)


def _cancel(model: Model, jobs: Iterable[Job]) -> int:
    cancelled = 0
    for job in jobs:
        model.move(job, Status.CANCELLED)
        job.completed_at = model.now
        cancelled += 1
    return cancelled


def _revive(model: Model, jobs: Iterable[Job], error_contains: str) -> int:
    revived = 0
    for job in jobs:
        error = job.last_error or ""
        if job.status != Status.DEADLETTER or error_contains not in error:
            continue
        model.move(job, Status.PENDING)
        model.give_turn_again(job)
        job.retry_count = job.deliveries = 0
        job.started_at = job.completed_at = job.worker_id = job.lease_id = None
        job.expires_at = None
        for batch in job.batches:
            batch.errors[error[:200]] -= 1
        revived += 1
    return revived


def _is_old(
    model: Model, organization: str, generations: list[Batch], before: int, before_dead: int
) -> bool:
    """Whether the oldest of these generations is settled, or never to be sealed, for so long."""
    batch = generations[0]
    jobs = model.of(organization, batch=batch)
    if not batch.sealed and len(generations) == 1:
        return False
    if any(job.status not in SETTLED for job in jobs):
        return False
    if any(job.status == Status.DEADLETTER for job in jobs):
        before = min(before, before_dead)
    return max(batch.changed_at, batch.used_at) <= before


def _forget(model: Model, organization: str, batch: Batch) -> None:
    for job in model.of(organization, batch=batch):
        job.batches.remove(batch)
        if job.own is batch and job.batches:
            # The oldest of the others has it now.
            job.own = min(job.batches, key=lambda other: other.number)
        if job.is_row and not job.batches:
            _remove(model, job)


def _remove(model: Model, job: Job) -> None:
    job.is_gone = True
    model.jobs.remove(job)


def _at(job: Job) -> int:
    assert job.completed_at is not None
    return job.completed_at
