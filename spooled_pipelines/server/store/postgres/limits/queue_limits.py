"""Limits of queues: set by an operator, and counted against by those who claim."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

import psycopg

from spooled_pipelines.server.core.limits.queue_limits import QueueControl, QueueLimiter
from spooled_pipelines.server.core.runtime.queue_names import EarlierName, name_taken, no_queue
from spooled_pipelines.server.store.postgres.connections.database import (
    Connection,
    Snapshot,
    borrowed,
    fetch,
)
from spooled_pipelines.server.store.postgres.transactions import StoreContext, Transaction, run
from spooled_pipelines.server.store.postgres.transactions.steps import is_first
from spooled_pipelines.server.store.requests import ControlChange
from spooled_pipelines.server.store.rows import queue_control

# Who settles does not tell of the room that it makes where it began before the queue had a cap.
# So long after one was set, those who find it full look again this often.
_UNAWARE_MS, _AGAIN_MS = 5_000, 100


@dataclass(slots=True)
class Limited:
    """A queue whose limits are locked until the commit; `room` is for the claims to come."""

    limiter: QueueLimiter
    in_flight: int
    claimed: int = 0

    @property
    def room(self) -> int:
        """How many jobs may still be claimed."""
        return self.limiter.room(self.in_flight)

    def count(self, jobs: int) -> None:
        """Note that so many were claimed."""
        self.limiter = self.limiter.spent(jobs)
        self.in_flight += jobs
        self.claimed += jobs

    def held_until(self, now: int) -> int | None:
        """Return when to look again, where nobody will say that there is room."""
        limiter = self.limiter
        if limiter.is_full(self.in_flight) and now - limiter.set_at < _UNAWARE_MS:
            return now + _AGAIN_MS
        return limiter.next_at(self.in_flight)


async def locked(tx: Transaction, queues: Collection[int]) -> dict[int, Limited]:
    """Return those of the queues that have limits."""
    rows = await tx.rows("lock_limits", queues=sorted(queues))
    counted = await tx.rows("count_in_flight", queues=[row[0] for row in rows])
    in_flight: dict[int, int] = dict(counted)
    return {
        queue: Limited(QueueLimiter._make(columns).filled(tx.now), in_flight.get(queue, 0))
        for queue, *columns in rows
    }


async def slow_down(tx: Transaction) -> None:
    """Slow the queues whose jobs came too fast, as this transaction was told."""
    throttled, tx.deltas.throttled = tx.deltas.throttled, {}
    limited = await locked(tx, throttled)
    counted: dict[int, int] = dict(await tx.rows("count_in_flight", queues=sorted(throttled)))
    for queue, said in sorted(throttled.items()):
        known = limited.get(queue)
        limiter = QueueLimiter.unlimited(tx.now) if known is None else known.limiter
        for started_at, after_ms in said:
            limiter = limiter.throttled(started_at, tx.now, counted.get(queue, 1), after_ms)
        await tx.send("put_limits", queue=queue, **limiter._asdict())
        tx.deltas.controlled.add(queue)


async def write(tx: Transaction, limited: dict[int, Limited]) -> None:
    """Write what was claimed of them."""
    for queue, one in sorted(limited.items()):
        if one.limiter.is_none:
            # It recovered from what Throttled slowed.
            await tx.send("remove_limits", queue=queue)
        elif one.claimed:
            level, filled_at = one.limiter.level, one.limiter.filled_at
            await tx.send("spend_limits", queue=queue, level=level, filled_at=filled_at)


async def set_control(
    context: StoreContext, organization: str, queue_name: str, change: ControlChange
) -> QueueControl:
    """Pause a queue, resume it, or cap what is claimed of it; return what is kept."""
    owner, queue = await context.place(organization, queue_name)
    await run(context, partial(_set_control, owner=owner, queue=queue, change=change))
    async with borrowed(context.pool) as connection:
        return await _control(connection, organization, queue_name, context.clock.now())


async def _set_control(tx: Transaction, owner: int, queue: int, change: ControlChange) -> None:
    async with tx.pipeline():
        await tx.begin()
        if change.request_id and not await is_first(tx, owner, change.request_id):
            change = ControlChange()
        if change.paused is not None:
            await tx.send("set_paused", queue=queue, paused=change.paused)
        if change.limits is not None:
            rows = await tx.rows("lock_limits", queues=[queue])
            before = QueueLimiter._make(rows[0][1:]) if rows else None
            limiter = QueueLimiter.of_limits(change.limits, before, tx.now)
            if limiter is None:
                await tx.send("remove_limits", queue=queue)
            else:
                await tx.send("put_limits", queue=queue, **limiter._asdict())
        tx.deltas.controlled.add(queue)
        if not change.paused:
            tx.deltas.ready_queues.add(queue)
        await tx.commit()


async def rename(
    context: StoreContext, organization: str, queue_name: str, new_name: str, request_id: str
) -> None:
    """Give a queue another name; the earlier one goes on to mean it."""
    owner = await context.owner(organization)
    try:
        await run(
            context,
            partial(
                _rename,
                organization=organization,
                owner=owner,
                names=(queue_name, new_name),
                request_id=request_id,
            ),
        )
    except psycopg.errors.UniqueViolation:
        # It was made a moment ago.
        raise name_taken(new_name) from None
    context.names.forget_queue_topics()


async def _rename(
    tx: Transaction, organization: str, owner: int, names: tuple[str, str], request_id: str
) -> None:
    async with tx.pipeline():
        await tx.begin()
        found = [
            await tx.rows("find_queue", organization=organization, name=name) for name in names
        ]
        if not found[0]:
            raise no_queue(names[0])
        queue, new_name = found[0][0][1], names[1]
        if found[1] and found[1][0][1] != queue:
            raise name_taken(new_name)
        if not request_id or await is_first(tx, owner, request_id):
            await tx.rows("lock_queue_name", queue=queue)
            await tx.send("keep_earlier_name", queue=queue)
            await tx.send("forget_earlier_name", queue=queue, name=new_name)
            await tx.send("rename_queue", queue=queue, name=new_name)
            tx.deltas.keys = True
        await tx.commit()


async def earlier_names(snapshot: Snapshot) -> list[EarlierName]:
    """Return every name that a queue had before."""
    rows = await fetch(snapshot.connection, "list_earlier_names")
    return [EarlierName(*row) for row in rows]


async def control(snapshot: Snapshot, organization: str, queue_name: str) -> QueueControl:
    """Return what holds a queue back."""
    return await _control(snapshot.connection, organization, queue_name, snapshot.now)


async def _control(
    connection: Connection, organization: str, queue_name: str, now: int
) -> QueueControl:
    rows = await fetch(connection, "read_control", organization=organization, name=queue_name)
    paused, *limits = rows[0] if rows else (False, None)
    return queue_control(paused, limits, now)
