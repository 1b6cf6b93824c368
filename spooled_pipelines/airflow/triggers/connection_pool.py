"""One connection for all triggers of a triggerer that use the same settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from spooled_pipelines.airflow.config import queue_poll_seconds
from spooled_pipelines.airflow.hooks.spooled import SpooledAsyncHook

if TYPE_CHECKING:
    from spooled_pipelines.airflow.triggers.watch_hub import BatchWatch, QueueWatch, Subscription
    from spooled_pipelines.client.aio.client import AsyncSpooledClient
    from spooled_pipelines.rpc.settings import ConnectionSettings
    from spooled_pipelines.types import BatchStats, QueueStats


@dataclass(eq=False)
class Shared:
    """A client, what is watched on it, and how many use it."""

    client: AsyncSpooledClient
    batches: BatchWatch
    queues: QueueWatch
    users: int = 0

    @asynccontextmanager
    async def changes_of(self, batches: Sequence[Mapping[str, Any]]) -> AsyncIterator[BatchChanges]:
        """News of these batches, each as `Batch.to_dict` gives it."""
        # A plain server keeps no batches: there they are seen through their queues.
        plain = [batch for batch in batches if batch.get("extension") is False]
        watch: BatchWatch | QueueWatch = self.queues if plain else self.batches
        name = "queue_name" if plain else "batch_id"
        subscription: Any = watch.subscribe([batch[name] for batch in batches])
        try:
            yield BatchChanges(subscription, plain)
        finally:
            watch.unsubscribe(subscription)

    @asynccontextmanager
    async def changes_of_queue(self, queue_name: str) -> AsyncIterator[Subscription[QueueStats]]:
        """News of a queue."""
        subscription = self.queues.subscribe([queue_name])
        try:
            yield subscription
        finally:
            self.queues.unsubscribe(subscription)


class BatchChanges:
    """A subscription whose news are always batches."""

    def __init__(self, subscription: Any, plain: Sequence[Mapping[str, Any]]) -> None:
        self._subscription = subscription
        self._plain = plain

    @property
    def away(self) -> Any:
        """Why nothing can be learned at the moment; None while the server answers."""
        return self._subscription.away

    async def news(self, seconds: float | None) -> list[BatchStats]:
        """As `Subscription.news`."""
        found: list[Any] = await self._subscription.news(seconds)
        return plain_stats(self._plain, found) if self._plain else found


def plain_stats(
    batches: Sequence[Mapping[str, Any]], queues: Sequence[QueueStats]
) -> list[BatchStats]:
    """What the statistics of these queues say about the batches on them."""
    from spooled_pipelines.batch.outcome.v1_stats import queue_as_batch
    from spooled_pipelines.types import QueueStats

    by_name = {queue.queue_name: queue for queue in queues}
    stats = []
    for batch in batches:
        queue = by_name.get(batch["queue_name"])
        if queue is not None:
            before = batch.get("queue_before")
            before = None if before is None else QueueStats(**before)
            stats.append(queue_as_batch(batch["batch_id"], batch.get("name") or "", before, queue))
    return stats


# A client belongs to the event loop that it was made on.
_shared: WeakKeyDictionary[
    asyncio.AbstractEventLoop, dict[ConnectionSettings, asyncio.Future[Shared]]
] = WeakKeyDictionary()


@asynccontextmanager
async def shared(spooled_conn_id: str) -> AsyncIterator[Shared]:
    """The connection of this id, which is closed when its last user leaves.

    Raises:
        SpooledError: there is no such connection, or it makes no sense.
    """
    settings = await SpooledAsyncHook(spooled_conn_id).settings()
    loop = asyncio.get_running_loop()
    made = _shared.setdefault(loop, {})
    if settings not in made:
        made[settings] = asyncio.ensure_future(_make(spooled_conn_id, settings))
    future = made[settings]
    try:
        # Who leaves while it is being made must not take it from the others.
        found = await asyncio.shield(future)
    except Exception:
        if made.get(settings) is future:
            del made[settings]
        raise
    found.users += 1
    try:
        yield found
    finally:
        found.users -= 1
        if not found.users and made.get(settings) is future:
            del made[settings]
            await found.batches.close()
            await found.queues.close()
            await found.client.close()


async def _make(spooled_conn_id: str, settings: ConnectionSettings) -> Shared:
    client = await SpooledAsyncHook(spooled_conn_id).client_of(settings)
    watching = await asyncio.to_thread(
        import_module, "spooled_pipelines.airflow.triggers.watch_hub"
    )
    calls = client.calls
    return Shared(
        client, watching.BatchWatch(calls), watching.QueueWatch(calls, queue_poll_seconds())
    )
