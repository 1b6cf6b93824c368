"""Operations on workers, within a transaction."""

from __future__ import annotations

from spooled_pipelines.server.core.errors import not_found
from spooled_pipelines.server.core.jobs.records import WorkerRecord
from spooled_pipelines.server.store.limits import WORKER_FORGOTTEN_MS, WORKERS_MAX, too_many
from spooled_pipelines.server.store.requests import Heartbeat
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.transactions import Snapshot, Transaction


def register(tx: Transaction, organization: str, worker: WorkerRecord) -> None:
    """Add a worker or update it."""
    owner = tx.names.organization(organization)
    tx.connection.execute(SQL["forget_workers"], (owner, tx.now - WORKER_FORGOTTEN_MS))
    others = tx.connection.execute(SQL["count_other_workers"], (owner, worker.worker_id))
    if others.fetchone()[0] >= WORKERS_MAX:
        raise too_many("workers", WORKERS_MAX)
    queue = tx.names.queue(owner, worker.queue_name)
    values = {**worker._asdict(), "organization": owner, "queue": queue}
    tx.send("put_worker", **values, registered_at=tx.now, seen_at=tx.now)


def heartbeat(tx: Transaction, organization: str, heartbeat: Heartbeat) -> None:
    """Note that a worker lives."""
    touched = tx.send(
        "touch_worker",
        organization=tx.names.organization(organization),
        worker_id=heartbeat.worker_id,
        current_jobs=heartbeat.current_jobs,
        status=heartbeat.status,
        metadata=heartbeat.metadata,
        seen_at=tx.now,
    )
    if not touched:
        raise not_found(f"there is no worker {heartbeat.worker_id!r}; register it first")


def deregister(tx: Transaction, organization: str, worker_id: str) -> bool:
    """Forget a worker; False where there was none."""
    values = (tx.names.organization(organization), worker_id)
    return tx.connection.execute(SQL["remove_worker"], values).rowcount > 0


def queue_of(snapshot: Snapshot, organization: str, worker_id: str) -> str | None:
    """Return the queue that a worker is registered for; None where there is no such worker."""
    row = snapshot.connection.execute(
        SQL["find_queue_of_worker"], (worker_id, organization)
    ).fetchone()
    return None if row is None else str(row[0])
