"""Queues that become slower since their jobs came too fast, within a transaction."""

from __future__ import annotations

from spooled_pipelines.server.core.queue_limits import QueueLimiter
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.transaction import Transaction


def slow_down(tx: Transaction) -> None:
    """Slow the queues whose jobs came too fast, as this operation was told."""
    for queue, said in tx.deltas.throttled.items():
        _, in_flight, *row = tx.connection.execute(SQL["read_terms"], (queue,)).fetchone()
        limiter = QueueLimiter.from_row(row) or QueueLimiter.unlimited(tx.now)
        for started_at, after_ms in said:
            limiter = limiter.throttled(started_at, tx.now, in_flight, after_ms)
        tx.send("put_limits", queue=queue, **limiter._asdict())
        tx.deltas.controlled.add(queue)
    tx.deltas.throttled = {}
