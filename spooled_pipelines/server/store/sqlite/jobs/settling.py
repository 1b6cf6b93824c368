"""Leases back, within a transaction: settled, renewed, ended with their worker."""

from __future__ import annotations

import json
from collections.abc import Sequence

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.errors import RefusedError, not_found
from spooled_pipelines.server.core.jobs.counter_deltas import LockedJob
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.jobs.rules import (
    Renewal,
    ends_of_death,
    fail_outcome,
    why_not_held,
)
from spooled_pipelines.server.core.jobs.settlements import (
    Act,
    Completion,
    Death,
    FailOutcome,
    Failure,
    GiveBack,
    LeaseHolder,
    Settlement,
)
from spooled_pipelines.server.store.requests import DeadWorker, LostClaims
from spooled_pipelines.server.store.sqlite.limits.queue_limits import slow_down
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.transactions import Transaction


def settle(
    tx: Transaction, organization: str, settlements: Sequence[Settlement]
) -> list[FailOutcome | RefusedError | None]:
    """Settle each in turn; return a failure's outcome, or why it was refused."""
    settled = [_settle_one(tx, organization, holder, act) for holder, act in settlements]
    if tx.deltas.throttled:
        slow_down(tx)
    return settled


def _settle_one(
    tx: Transaction, organization: str, holder: LeaseHolder, act: Act
) -> FailOutcome | RefusedError | None:
    """Settle a job; return a failure's outcome, or why it was refused: then nothing has changed."""
    if isinstance(act, Completion) and _is_completed(tx, organization, holder, act.result):
        return None
    # Either it names no lease, or here it is said what is wrong.
    job = _held(tx, organization, holder)
    if isinstance(job, RefusedError):
        return job
    tx.deltas.apply(job, act, tx.now)
    tx.write(job)
    is_failed = isinstance(act, Failure | Death) or job.state.status == Status.DEADLETTER
    return fail_outcome(job.state, tx.now) if is_failed else None


def renew(tx: Transaction, organization: str, holder: LeaseHolder, lease_ms: int) -> int:
    """Let a lease last this long from now; returns when it ends."""
    job = _held(tx, organization, holder)
    if isinstance(job, RefusedError):
        raise job
    tx.deltas.apply(job, Renewal(lease_ms), tx.now)
    tx.write(job)
    return tx.now + lease_ms


def take_back(tx: Transaction, organization: str, lost: LostClaims) -> int:
    """Give back what was claimed without an answer; return how many jobs."""
    queue = tx.names.known_queue(tx.names.organization(organization), lost.queue_name)
    values = {"worker_id": lost.worker_id, "leases": json.dumps(list(lost.lease_ids))}
    held = tx.locked("lock_unanswered", queue=queue, **values)
    for job in held:
        tx.deltas.apply(job, GiveBack(), tx.now)
        tx.write(job)
    return len(held)


def end_worker(tx: Transaction, organization: str, worker: DeadWorker) -> int:
    """End every lease of a worker whose process died."""
    owner = tx.names.organization(organization)
    held = [
        job
        for job in tx.locked("lock_held", organization=owner, worker_id=worker.worker_id)
        if worker.queues is None or tx.names.queue_topic(job.queue)[1] in worker.queues
    ]
    running = [worker.ran(ids.job_id(tx.prefix, job.seq)) for job in held]
    ends = ends_of_death(running, worker.error, worker.exit_code)
    for job, end in zip(held, ends, strict=True):
        tx.deltas.apply(job, end, tx.now)
        tx.write(job)
    return len(held)


def _held(tx: Transaction, organization: str, holder: LeaseHolder) -> LockedJob | RefusedError:
    """Return the job, if it is the holder's to settle; else why not."""
    seq = ids.job_number(tx.prefix, holder.job_id)
    owner = tx.names.organization(organization)
    job = tx.locked_job(seq, owner)
    if job is None:
        return not_found(f"there is no job {holder.job_id!r}")
    return why_not_held(job.state, holder, tx.now) or job


def _is_completed(
    tx: Transaction, organization: str, holder: LeaseHolder, result: bytes | None
) -> bool:
    """Complete the job in one statement; False where it is not held by this lease."""
    seq, owner = ids.job_number(tx.prefix, holder.job_id), tx.names.organization(organization)
    values = (tx.now, result, seq, owner, holder.lease_id, holder.worker_id)
    row = tx.connection.execute(SQL["complete_job"], values).fetchone()
    if row is None:
        return False
    number, queue, batch, linked, is_capped = row
    batches = tx.batches_of(number, batch, linked)
    tx.deltas.move(queue, batches, Status.PROCESSING, Status.COMPLETED)
    tx.deltas.lease_ended(number, holder.lease_id, queue, is_capped)
    return True
