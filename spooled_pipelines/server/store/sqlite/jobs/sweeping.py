"""What time brings, within a transaction: jobs become due, leases run out."""

from __future__ import annotations

from spooled_pipelines.server.core.batches.rules import UPLOAD_GONE_MS
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.jobs.rules import Expire, LeaseExpiry
from spooled_pipelines.server.store.limits import SWEEP_JOBS
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.transactions import Transaction, turns


def release_due(tx: Transaction) -> bool:
    """Make claimable what is due; True where there is more."""
    rows = tx.connection.execute(SQL["find_due"], (tx.now, SWEEP_JOBS)).fetchall()
    for seq, queue, _, _, _, status, batch, linked, limit_key in rows:
        batches = tx.batches_of(seq, batch, linked)
        waited, is_held = status == Status.PENDING, limit_key is not None
        tx.deltas.move(queue, batches, status, Status.PENDING, was_waiting=waited, waiting=is_held)
        if is_held:
            tx.deltas.limit_keys.add((queue, limit_key))
    rounds = turns.rounds_again(tx, (row[:5] for row in rows))
    released = [(number, seq) for seq, number in rounds.items()]
    tx.connection.executemany(SQL["release_job"], released)
    return len(rows) == SWEEP_JOBS


def cancel_too_late(tx: Transaction) -> bool:
    """Cancel jobs that did not start in time; True where there is more."""
    jobs = tx.locked("lock_too_late", now=tx.now, limit=SWEEP_JOBS)
    for job in jobs:
        tx.deltas.apply(job, Expire(), tx.now)
        tx.write(job)
    return len(jobs) == SWEEP_JOBS


def requeue_expired(tx: Transaction) -> bool:
    """Take jobs back whose lease ran out; True where there is more."""
    jobs = tx.locked("lock_expired", now=tx.now, limit=SWEEP_JOBS)
    for job in jobs:
        tx.deltas.apply(job, LeaseExpiry(), tx.now)
        tx.deltas.expired[job.queue] = tx.now
        tx.write(job)
    return len(jobs) == SWEEP_JOBS


def next_moment(tx: Transaction) -> tuple[int | None, bool]:
    """Return when the next job is due or the next lease ends, and whether there is more to do."""
    ((*moments, more),) = tx.rows("read_next_moment", gone=UPLOAD_GONE_MS)
    return min((moment for moment in moments if moment is not None), default=None), bool(more)
