"""Operations on workers, within a transaction."""

from __future__ import annotations

from spooled_pipelines.server.core.errors import RefusedError, not_found
from spooled_pipelines.server.core.records import WorkerRecord
from spooled_pipelines.server.store.requests import Heartbeat
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.transaction import Snapshot, Transaction


def register(tx: Transaction, organization: str, worker: WorkerRecord) -> None:
    """Add a worker or update it."""
    owner = tx.names.organization(organization)
    other = _owner(tx, worker.worker_id)
    if other is not None and other != owner:
        raise RefusedError(
            "ALREADY_EXISTS", f"worker_id {worker.worker_id!r} is taken; choose another"
        )
    queue = tx.names.queue(owner, worker.queue_name)
    values = {**worker._asdict(), "organization": owner, "queue": queue}
    tx.send("put_worker", **values, registered_at=tx.now, seen_at=tx.now)


def heartbeat(tx: Transaction, organization: str, heartbeat: Heartbeat) -> None:
    """Note that a worker lives."""
    if _owner(tx, heartbeat.worker_id) != tx.names.organization(organization):
        raise not_found(f"there is no worker {heartbeat.worker_id!r}; register it first")
    tx.send(
        "touch_worker",
        worker_id=heartbeat.worker_id,
        current_jobs=heartbeat.current_jobs,
        status=heartbeat.status,
        metadata=heartbeat.metadata,
        seen_at=tx.now,
    )


def deregister(tx: Transaction, organization: str, worker_id: str) -> bool:
    """Forget a worker; False where there was none."""
    if _owner(tx, worker_id) != tx.names.organization(organization):
        return False
    tx.connection.execute(SQL["remove_worker"], (worker_id,))
    return True


def queue_of(snapshot: Snapshot, organization: str, worker_id: str) -> str | None:
    """Return the queue that a worker is registered for; None where there is no such worker."""
    row = snapshot.connection.execute(
        SQL["find_queue_of_worker"], (worker_id, organization)
    ).fetchone()
    return None if row is None else str(row[0])


def _owner(tx: Transaction, worker_id: str) -> int | None:
    row = tx.connection.execute(SQL["find_worker"], (worker_id,)).fetchone()
    return None if row is None else int(row[0])
