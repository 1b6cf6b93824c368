"""Leases out, within a transaction."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from spooled_pipelines.server.core.jobs.records import JobRecord, Status
from spooled_pipelines.server.core.limits.queue_limits import QueueLimiter
from spooled_pipelines.server.store.requests import ClaimRequest
from spooled_pipelines.server.store.sqlite.jobs.sweeping import release_due
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.reads.records import job_records
from spooled_pipelines.server.store.sqlite.transactions import Transaction, turns

# Priority, round, number, batch, whether it is linked, then the record.
_Row = tuple[Any, ...]


def claim(tx: Transaction, organization: str, request: ClaimRequest) -> list[JobRecord]:
    """Lease the first claimable jobs."""
    # The timer may be a moment behind; a claim is not.
    release_due(tx)
    # Asking makes no queue: its name may be a mistake, and anybody may ask for many.
    queue = tx.names.known_queue(tx.names.organization(organization), request.queue_name)
    if queue is None:
        return []
    is_paused, in_flight, *limits = tx.connection.execute(SQL["read_terms"], (queue,)).fetchone()
    if is_paused:
        return []
    limiter = QueueLimiter.from_row(limits)
    if limiter is None:
        rows = _claim(tx, queue, request, request.limit)
    else:
        rows = _claim_within_limits(tx, queue, limiter.filled(tx.now), in_flight, request)
    if not rows:
        return []
    # By priority, highest first, then round and number.
    rows.sort(key=itemgetter(1, 2))
    rows.sort(key=itemgetter(0), reverse=True)
    turns.note_claimed(tx, queue, (row[:2] for row in rows))
    _, _, seqs, batches, linked, *columns = zip(*rows, strict=True)
    tx.move(queue, (seqs, batches, linked), Status.PENDING, Status.PROCESSING)
    tx.deltas.due_at(tx.now + request.lease_ms)
    return job_records(tx.prefix, columns, request.queue_name)


def _claim(tx: Transaction, queue: int, request: ClaimRequest, limit: int) -> list[_Row]:
    """Lease the first jobs, at least one where there are any, that fit into one answer."""
    return tx.rows(
        "claim_jobs",
        queue=queue,
        limit=limit,
        budget=request.max_bytes,
        worker=request.worker_id,
        lease=request.lease_id,
        now=tx.now,
        expiry=tx.now + request.lease_ms,
    )


def _claim_within_limits(
    tx: Transaction, queue: int, limiter: QueueLimiter, in_flight: int, request: ClaimRequest
) -> list[_Row]:
    """Lease jobs of a limited queue, counted as claimed."""
    limit = request.limit
    allowed = min(limit, limiter.room(in_flight))
    rows = _claim(tx, queue, request, allowed) if allowed else []
    limiter = limiter.spent(len(rows))
    if limiter.is_none:
        tx.connection.execute(SQL["remove_limits"], (queue,))
    elif rows:
        tx.connection.execute(SQL["spend_limits"], (limiter.level, limiter.filled_at, queue))
    moment = limiter.next_at(in_flight + len(rows))
    if moment is not None and len(rows) == allowed < limit:
        tx.changes.held_until[tx.names.queue_topic(queue)] = moment
    return rows
