"""Limits of queues: set by an operator, and counted against by those who claim."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from spooled_pipelines.server.core import queue_limits
from spooled_pipelines.server.core.queue_limits import QueueControl, QueueLimits, Throttle
from spooled_pipelines.server.store.postgres.context import StoreContext
from spooled_pipelines.server.store.postgres.database import Connection, fetch
from spooled_pipelines.server.store.postgres.transaction import Transaction
from spooled_pipelines.server.store.postgres.transaction_retry import run

# Who settles does not tell of the room that it makes where it began before the queue had a cap.
# So long after one was set, those who find it full look again this often.
_UNAWARE_MS, _AGAIN_MS = 5_000, 100


@dataclass(slots=True)
class Limited:
    """A queue whose limits are locked until the commit; `room` is for the claims to come."""

    throttle: Throttle
    in_flight: int
    claimed: int = 0

    @property
    def room(self) -> int:
        """How many jobs may still be claimed."""
        return self.throttle.room(self.in_flight)

    def count(self, jobs: int) -> None:
        """So many were claimed."""
        self.throttle = self.throttle.spent(jobs)
        self.in_flight += jobs
        self.claimed += jobs

    def held_until(self, now: int) -> int | None:
        """When to look again, where nobody will say that there is room."""
        throttle = self.throttle
        if throttle.is_full(self.in_flight) and now - throttle.set_at < _UNAWARE_MS:
            return now + _AGAIN_MS
        return throttle.held_until(self.in_flight)


async def locked(tx: Transaction, queues: Collection[int]) -> dict[int, Limited]:
    """Those of the queues that have limits."""
    rows = await tx.rows("lock_limits", queues=sorted(queues))
    counted = await tx.rows("in_flight", queues=[row[0] for row in rows])
    in_flight: dict[int, int] = dict(counted)
    return {
        queue: Limited(Throttle._make(columns).filled(tx.now), in_flight.get(queue, 0))
        for queue, *columns in rows
    }


async def write(tx: Transaction, limited: dict[int, Limited]) -> None:
    """Write what was claimed of them."""
    for queue, one in sorted(limited.items()):
        if one.claimed:
            level, filled_at = one.throttle.level, one.throttle.filled_at
            await tx.send("spend", queue=queue, level=level, filled_at=filled_at)


async def set_limits(
    context: StoreContext, organization: str, queue_name: str, limits: QueueLimits
) -> QueueLimits:
    """Cap what is claimed of a queue from now on; the limits as they are kept."""
    _, queue = await context.place(organization, queue_name)
    return await run(context, partial(_set_limits, queue=queue, limits=limits))


async def _set_limits(tx: Transaction, queue: int, limits: QueueLimits) -> QueueLimits:
    async with tx.pipeline():
        await tx.begin()
        rows = await tx.rows("lock_limits", queues=[queue])
        before = Throttle._make(rows[0][1:]) if rows else None
        throttle = queue_limits.throttle(limits, before, tx.now)
        if throttle is None:
            await tx.send("lift_limits", queue=queue)
        else:
            await tx.send("put_limits", queue=queue, **throttle._asdict())
        tx.deltas.ready_queues.add(queue)
        tx.deltas.controlled.add(queue)
        await tx.commit()
    return QueueLimits() if throttle is None else throttle.limits


async def control(connection: Connection, organization: str, queue_name: str) -> QueueControl:
    """What holds a queue back."""
    rows = await fetch(connection, "queue_control", organization=organization, name=queue_name)
    if not rows:
        return QueueControl(QueueLimits(), paused=False)
    paused, *columns = rows[0]
    throttle = queue_limits.stored(columns)
    return QueueControl(QueueLimits() if throttle is None else throttle.limits, paused)
