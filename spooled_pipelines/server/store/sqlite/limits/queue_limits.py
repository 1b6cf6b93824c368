"""What an operator sets for a queue, its name included, within a transaction."""

from __future__ import annotations

from spooled_pipelines.server.core.limits.queue_limits import (
    QueueControl,
    QueueLimiter,
    QueueLimits,
)
from spooled_pipelines.server.core.runtime.queue_names import EarlierName, name_taken, no_queue
from spooled_pipelines.server.store.requests import ControlChange
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.transactions import Snapshot, Transaction
from spooled_pipelines.server.store.sqlite.transactions.steps import is_first


def set_control(
    tx: Transaction, organization: str, queue_name: str, change: ControlChange
) -> QueueControl:
    """Pause a queue, resume it, or cap what is claimed of it; return what is kept."""
    owner = tx.names.organization(organization)
    queue = tx.names.queue(owner, queue_name)
    is_paused, _, *row = tx.connection.execute(SQL["read_terms"], (queue,)).fetchone()
    limiter = QueueLimiter.from_row(row)
    if change.request_id and not is_first(tx, owner, change.request_id):
        change = ControlChange()
    if change.paused is not None:
        is_paused = change.paused
        tx.connection.execute(SQL["set_paused"], (is_paused, queue))
    if change.limits is not None:
        limiter = QueueLimiter.of_limits(change.limits, limiter, tx.now)
        if limiter is None:
            tx.connection.execute(SQL["remove_limits"], (queue,))
        else:
            tx.send("put_limits", queue=queue, **limiter._asdict())
    tx.deltas.controlled.add(queue)
    if not is_paused:
        tx.deltas.ready_queues.add(queue)
    return QueueControl(QueueLimits() if limiter is None else limiter.limits, bool(is_paused))


def rename(
    tx: Transaction, organization: str, queue_name: str, new_name: str, request_id: str
) -> None:
    """Give a queue another name; the earlier one goes on to mean it."""
    owner = tx.names.organization(organization)
    queue = tx.names.known_queue(owner, queue_name)
    if queue is None:
        raise no_queue(queue_name)
    if tx.names.known_queue(owner, new_name) not in (None, queue):
        raise name_taken(new_name)
    if request_id and not is_first(tx, owner, request_id):
        return
    tx.send("keep_earlier_name", queue=queue)
    tx.send("forget_earlier_name", queue=queue, name=new_name)
    tx.send("rename_queue", queue=queue, name=new_name)
    tx.names.forget()
    tx.changes.keys = True


def earlier_names(snapshot: Snapshot) -> list[EarlierName]:
    """Return every name that a queue had before."""
    rows = snapshot.connection.execute(SQL["list_earlier_names"])
    return [EarlierName(*row) for row in rows]


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
