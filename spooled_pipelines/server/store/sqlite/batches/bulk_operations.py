"""Steps of a cancel or a retry, within a transaction: so many jobs of a batch or queue."""

from __future__ import annotations

from collections.abc import Sequence

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.errors import RefusedError, not_found
from spooled_pipelines.server.core.jobs.counter_deltas import LockedJob
from spooled_pipelines.server.core.jobs.records import Counts, Status
from spooled_pipelines.server.core.jobs.rules import (
    Cancel,
    Event,
    Purge,
    Retry,
    event_of,
    is_stripped,
    why_not_revised,
)
from spooled_pipelines.server.core.jobs.settlements import Revision
from spooled_pipelines.server.store.limits import STEP_JOBS
from spooled_pipelines.server.store.requests import BatchSelector
from spooled_pipelines.server.store.sqlite.batches.batches import find
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.transactions import Transaction, turns
from spooled_pipelines.server.store.steps import Progress, Step

_REVIVABLE = (Status.DEADLETTER, Status.CANCELLED)


def generations(tx: Transaction, organization: str, selector: BatchSelector) -> list[int]:
    """Return the numbers of a batch's generations up to this one."""
    batch_id, highest = selector.batch_id, selector.generation
    owner = tx.names.organization(organization)
    rows = tx.connection.execute(SQL["list_generations"], (owner, batch_id)).fetchall()
    if not rows:
        raise not_found(f"there is no batch {batch_id!r}")
    return [number for number, generation in rows if highest is None or generation <= highest]


def newest(tx: Transaction, organization: str, batch_id: str) -> int:
    """Return the number of a batch's newest generation."""
    return find(tx, tx.names.organization(organization), batch_id)[0]


def counts(tx: Transaction, batches: list[int]) -> Counts:
    """Return the counters of these batches, added up."""
    read, statement = tx.connection.execute, SQL["read_generation_counts"]
    # One that was forgotten meanwhile counts nothing.
    rows = [row for batch in batches if (row := read(statement, (batch,)).fetchone())]
    return Counts(*(sum(row[place] for row in rows) for place in range(len(Counts._fields))))


def cancel_batch(tx: Transaction, so_far: Progress, batch: int) -> Step:
    """Cancel which of the next jobs have not started."""
    jobs = tx.locked("lock_jobs_of_batch", batch=batch, after=so_far.after, limit=STEP_JOBS)
    return Step(_apply(tx, jobs, Cancel()), _following(jobs))


def cancel_noted(tx: Transaction) -> bool:
    """Cancel more of a batch that is noted as to be cancelled; False where there is none."""
    row = tx.connection.execute(SQL["find_cancelled"]).fetchone()
    if row is None:
        return False
    batch, after = row
    step = cancel_batch(tx, Progress(after=after), batch)
    tx.connection.execute(SQL["note_cancelled"], (step.after, batch))
    if step.after is not None:
        # The sweep goes on with it, should the caller not.
        tx.deltas.due_at(tx.now)
    return True


def retry_batch(
    tx: Transaction, so_far: Progress, batch: int, error_contains: str, cancelled: bool
) -> Step:
    """Put those of the next jobs back into the queue that are dead of such an error.

    And, where that is asked for, those that were cancelled and have their payloads.
    """
    jobs = tx.locked("lock_jobs_of_batch", batch=batch, after=so_far.after, limit=STEP_JOBS)
    changed = _retry(tx, jobs, Retry(cancelled), error_contains)
    stripped = [job.seq for job in jobs if cancelled and is_stripped(job.state)]
    return Step(changed, _following(jobs), stripped)


def purge_queue(tx: Transaction, so_far: Progress, organization: str, queue: int) -> Step:
    """Cancel some jobs that are pending, of those that were there at the first step."""
    highest = so_far.highest
    if highest is None:
        highest = tx.numbers.last(tx.names.organization(organization))
    values = {"queue": queue, "highest": highest, "limit": STEP_JOBS}
    ready, retrying = tx.locked("lock_ready", **values), tx.locked("lock_retrying", **values)
    changed = _apply(tx, [*ready, *retrying], Purge())
    # What was cancelled is not found again, so there is no place to go on from.
    is_last = max(len(ready), len(retrying)) < STEP_JOBS
    return Step(changed, None if is_last else 0, highest=highest)


def retry_queue(tx: Transaction, so_far: Progress, queue: int, error_contains: str) -> Step:
    """Put those of the next dead letters of a queue back that died of such an error."""
    jobs = tx.locked("lock_dead", queue=queue, after=so_far.after, limit=STEP_JOBS)
    return Step(_retry(tx, jobs, Retry(), error_contains), _following(jobs))


def revise(
    tx: Transaction, organization: str, revisions: Sequence[Revision]
) -> list[RefusedError | None]:
    """Revise dead letters; return for each, in turn, why it stays as it is."""
    owner = tx.names.organization(organization)
    requeued: list[LockedJob] = []
    refusals = [_revise(tx, owner, revision, requeued) for revision in revisions]
    _give_turns_again(tx, requeued)
    return refusals


def _revise(
    tx: Transaction, owner: int, revision: Revision, requeued: list[LockedJob]
) -> RefusedError | None:
    number = ids.job_number(tx.prefix, revision.job_id)
    job = tx.locked_job(number, owner)
    refusal = why_not_revised(job.state, revision) if job else None
    if refusal is not None:
        return refusal
    if job is None or _is_forgotten(tx, job):
        return not_found(f"there is no job {revision.job_id!r}")
    _apply(tx, [job], event_of(revision))
    if not (revision.discard or revision.cancel):
        requeued.append(job)
        if revision.payload is not None:
            tx.send("change_payload", payload=revision.payload, seq=number)
    return None


def queue_number(tx: Transaction, organization: str, queue_name: str) -> int:
    """Return the queue's number; make the queue if it is not there."""
    return tx.names.queue(tx.names.organization(organization), queue_name)


def _retry(tx: Transaction, jobs: list[LockedJob], event: Retry, error_contains: str) -> int:
    wanted = [
        job
        for job in jobs
        if job.state.status != Status.DEADLETTER or error_contains in (job.state.last_error or "")
    ]
    changed = _apply(tx, wanted, event)
    _give_turns_again(tx, wanted)
    return changed


def _give_turns_again(tx: Transaction, jobs: Sequence[LockedJob]) -> None:
    """Let jobs that were put back into their queues take turns from now on."""
    turns.give_again(tx, [job.seq for job in jobs if job.changed and job.state.is_in_line])


def _apply(tx: Transaction, jobs: Sequence[LockedJob], event: Event) -> int:
    """Do it to these jobs, but for those that are forgotten; returns how many it changed."""
    changed = 0
    for job in jobs:
        if isinstance(event, Retry) and job.state.status in _REVIVABLE and _is_forgotten(tx, job):
            continue
        if tx.deltas.apply(job, event, tx.now):
            tx.write(job)
            changed += 1
    return changed


def _is_forgotten(tx: Transaction, job: LockedJob) -> bool:
    """Return whether the job goes with its batches, and is as good as gone."""
    return bool(job.batches) and not any(
        tx.rows("find_remembered", batch=batch) for batch in job.batches
    )


def _following(jobs: Sequence[LockedJob]) -> int | None:
    return jobs[-1].seq if len(jobs) == STEP_JOBS else None
