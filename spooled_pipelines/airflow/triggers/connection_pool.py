"""One connection for all triggers of a triggerer that use the same settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from spooled_pipelines.airflow.handover.batch_refs import BatchRef
from spooled_pipelines.airflow.hooks import SpooledHook
from spooled_pipelines.airflow.platform.config import queue_poll_seconds
from spooled_pipelines.airflow.triggers.watch_hub import BatchHub, QueueHub, Subscription
from spooled_pipelines.errors import SpooledError
from spooled_pipelines.types import BatchStats, QueueStats

if TYPE_CHECKING:
    from spooled_pipelines.client.aio.client import AsyncSpooledClient
    from spooled_pipelines.rpc.settings import ConnectionSettings


# How often a connection is read again while its server is away.
READ_AGAIN_SECONDS = 30.0


@dataclass(eq=False)
class PooledClient:
    """A client, the hubs that watch on it, and the number of its users."""

    client: AsyncSpooledClient
    batches: BatchHub
    queues: QueueHub
    hook: SpooledHook
    settings: ConnectionSettings
    users: int = 0
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _read_at: float = field(default_factory=monotonic)
    _was_changed: bool = False

    async def connection_changed(self, max_age: float) -> bool:
        """Whether the Airflow connection says something else by now: another host, another key.

        Args:
            max_age: how many seconds ago that may have been found out, for another user, too.
        """
        async with self._reading:
            if monotonic() - self._read_at >= max_age:
                # Whatever Airflow raises, the connection as it was may still do.
                with suppress(Exception):
                    self._was_changed = await self.hook.async_settings() != self.settings
                self._read_at = monotonic()
        return self._was_changed

    async def until_changed(self) -> None:
        """Return once the connection has changed while the server was away."""
        while True:
            await asyncio.sleep(READ_AGAIN_SECONDS)
            is_away = self.batches.is_away or self.queues.is_away
            if is_away and await self.connection_changed(READ_AGAIN_SECONDS / 2):
                return

    @contextmanager
    def watch_batches(
        self, batches: Sequence[BatchRef]
    ) -> Iterator[Subscription[BatchStats] | UpdatesFromQueues]:
        """Subscribe to the statistics of these batches."""
        if all(batch.server_keeps_batches for batch in batches):
            with self.batches.subscription([batch.batch_id for batch in batches]) as subscription:
                yield subscription
        else:
            names = [batch.queue_name or "" for batch in batches]
            with self.queues.subscription(names) as updates:
                yield UpdatesFromQueues(updates, batches)

    async def close(self) -> None:
        """End what runs, and close the client."""
        await self.batches.close()
        await self.queues.close()
        await self.client.close()


class UpdatesFromQueues:
    """A subscription to batches, whose statistics are made from those of their queues."""

    def __init__(self, updates: Subscription[QueueStats], batches: Sequence[BatchRef]) -> None:
        self._updates = updates
        self._batches = batches

    async def next_updates(
        self, seconds: float | None, on_outage: Callable[[SpooledError | None], None] | None = None
    ) -> list[BatchStats]:
        """As `Subscription.next_updates`."""
        from spooled_pipelines.batch.outcome.v1_stats import stats_from_queue

        updates = await self._updates.next_updates(seconds, on_outage)
        queues = {queue.queue_name: queue for queue in updates}
        stats = []
        for batch in self._batches:
            queue = queues.get(batch.queue_name or "")
            if queue is not None:
                before = None if batch.queue_before is None else QueueStats(**batch.queue_before)
                stats.append(stats_from_queue(batch.batch_id, batch.name or "", before, queue))
        return stats


# A client belongs to the event loop that it was made on.
_clients: WeakKeyDictionary[
    asyncio.AbstractEventLoop, dict[ConnectionSettings, asyncio.Future[PooledClient]]
] = WeakKeyDictionary()


@asynccontextmanager
async def pooled_client(spooled_conn_id: str) -> AsyncIterator[PooledClient]:
    """Share the client of this connection, which is closed when its last user leaves.

    Raises:
        SpooledError: there is no such connection, or it makes no sense.
    """
    hook = SpooledHook(spooled_conn_id)
    settings = await hook.async_settings()
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    if settings not in clients:
        clients[settings] = asyncio.ensure_future(_connect(hook, settings))
    future = clients[settings]
    try:
        # A waiter that is cancelled must not cancel connection set-up for the others.
        pooled = await asyncio.shield(future)
    except Exception:
        if clients.get(settings) is future:
            del clients[settings]
        raise
    pooled.users += 1
    try:
        yield pooled
    finally:
        pooled.users -= 1
        if not pooled.users and clients.get(settings) is future:
            del clients[settings]
            await pooled.close()


async def _connect(hook: SpooledHook, settings: ConnectionSettings) -> PooledClient:
    client = await hook.async_client_of(settings)
    batches, queues = BatchHub(client), QueueHub(client, queue_poll_seconds())
    return PooledClient(client, batches, queues, hook, settings)
