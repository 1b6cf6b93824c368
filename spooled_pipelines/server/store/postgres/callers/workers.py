"""Operations on workers, a statement each."""

from __future__ import annotations

from spooled_pipelines.server.core.errors import not_found
from spooled_pipelines.server.core.jobs.records import WorkerRecord
from spooled_pipelines.server.store.limits import WORKER_FORGOTTEN_MS, WORKERS_MAX, too_many
from spooled_pipelines.server.store.postgres.connections.database import Snapshot, borrowed, fetch
from spooled_pipelines.server.store.postgres.transactions import StoreContext
from spooled_pipelines.server.store.requests import Heartbeat


async def register(context: StoreContext, organization: str, worker: WorkerRecord) -> None:
    """Add a worker or update it."""
    owner, queue = await context.place(organization, worker.queue_name)
    now = context.clock.now()
    async with borrowed(context.pool) as connection:
        before = now - WORKER_FORGOTTEN_MS
        await fetch(connection, "forget_workers", organization=owner, before=before)
        rows = await fetch(
            connection,
            "put_worker",
            most=WORKERS_MAX,
            worker_id=worker.worker_id,
            organization=owner,
            queue=queue,
            hostname=worker.hostname.encode(),
            worker_type=worker.worker_type.encode(),
            max_concurrency=worker.max_concurrency,
            version=worker.version.encode(),
            metadata=worker.metadata.encode(),
            now=now,
        )
    if not rows:
        raise too_many("workers", WORKERS_MAX)


async def heartbeat(context: StoreContext, organization: str, heartbeat: Heartbeat) -> None:
    """Note that a worker lives."""
    async with borrowed(context.pool) as connection:
        rows = await fetch(
            connection,
            "touch_worker",
            organization=organization,
            worker_id=heartbeat.worker_id,
            current_jobs=heartbeat.current_jobs,
            status=heartbeat.status.encode(),
            metadata=heartbeat.metadata.encode(),
            now=context.clock.now(),
        )
    if not rows:
        raise not_found(f"there is no worker {heartbeat.worker_id!r}; register it first")


async def queue_of(snapshot: Snapshot, organization: str, worker_id: str) -> str | None:
    """Return the queue that a worker is registered for; None where there is no such worker."""
    values = {"organization": organization, "worker_id": worker_id}
    rows = await snapshot.rows("find_queue_of_worker", **values)
    return rows[0][0] if rows else None


async def deregister(context: StoreContext, organization: str, worker_id: str) -> bool:
    """Forget a worker; False where there was none."""
    async with borrowed(context.pool) as connection:
        values = {"organization": organization, "worker_id": worker_id}
        return bool(await fetch(connection, "remove_worker", **values))
