"""Multiplex many watched batches over a few streams, and share queue polls.

A triggerer waits for a thousand batches at once. A stream for each would be a thousand calls on the
server and as many tasks here, so batches that come close together share one, and where there are
more than a few streams the two smallest are merged.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
from contextlib import aclosing, contextmanager, suppress
from contextvars import Context
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from spooled_pipelines.batch.flow_control import RetryBudget
from spooled_pipelines.errors import (
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    SpooledError,
)
from spooled_pipelines.types import BatchStats, QueueStats
from spooled_pipelines.wire.limits import BATCH_IDS_PER_CALL_MAX

if TYPE_CHECKING:
    from spooled_pipelines.client.aio.client import AsyncSpooledClient

# Batches that come within this are put on one stream.
_GATHER_SECONDS = 0.1
_STREAMS_MAX = 4
# A server does not report on a batch that stands still, and it may have begun to know why.
_REFRESH_SECONDS = 30.0
_REFRESH_BATCHES = 100
_FIRST_PAUSE_SECONDS = 0.1
_FOREVER = float("inf")
# Errors that are about one batch among many.
_ERRORS_OF_ONE_BATCH = (InvalidArgumentError, NotFoundError, PermissionDeniedError)

V = TypeVar("V")


class Subscription(Generic[V]):
    """What became known of some keys since it was last asked for.

    Attributes:
        outage: why nothing can be learned at the moment; None while the server answers.
    """

    def __init__(self, keys: Collection[str]) -> None:
        self.keys = frozenset(keys)
        self.outage: SpooledError | None = None
        self._updates: dict[str, V] = {}
        self._error: SpooledError | None = None
        self._wake = asyncio.Event()

    async def next_updates(
        self, seconds: float | None, on_outage: Callable[[SpooledError | None], None] | None = None
    ) -> list[V]:
        """Wait for updates, and return the newest value of each key; none once time is up.

        Args:
            seconds: how long to wait at most; None: for ever.
            on_outage: told of an outage that begins, and with None of one that is over.

        Raises:
            SpooledError: there will be no further updates, and why.
        """
        ends = _FOREVER if seconds is None else monotonic() + seconds
        while True:
            left = None if seconds is None else max(0.0, ends - monotonic())
            try:
                await asyncio.wait_for(self._wake.wait(), left)
            except asyncio.TimeoutError:
                return []
            if self._error is not None:
                raise self._error
            self._wake.clear()
            if on_outage is not None:
                on_outage(self.outage)
            if self._updates:
                updates = list(self._updates.values())
                self._updates.clear()
                return updates

    def publish(self, key: str, value: V) -> None:
        """Pass on a key's newest value."""
        self._updates[key] = value
        self._wake.set()

    def report_outage(self, outage: SpooledError | None) -> None:
        """Pass on that nothing can be learned, or with None that the server answers."""
        if (outage is None) != (self.outage is None):
            self._wake.set()
        self.outage = outage

    def fail(self, error: SpooledError) -> None:
        """End it with this error."""
        self._error = error
        self._wake.set()


class Hub(ABC, Generic[V]):
    """Subscriptions by key, and the newest value of each key.

    Attributes:
        is_away: whether the server did not answer when it was last asked.
    """

    def __init__(self, client: AsyncSpooledClient) -> None:
        self.is_away = False
        self._client = client
        self._subscribers: dict[str, set[Subscription[V]]] = {}
        self._newest: dict[str, V] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def subscription(self, keys: Collection[str]) -> Iterator[Subscription[V]]:
        """Watch these keys within the `with`."""
        subscription: Subscription[V] = Subscription(keys)
        for key in subscription.keys:
            if key in self._newest:
                subscription.publish(key, self._newest[key])
            self._subscribers.setdefault(key, set()).add(subscription)
        self._keys_added([key for key in subscription.keys if len(self._subscribers[key]) == 1])
        try:
            yield subscription
        finally:
            for key in subscription.keys:
                subscribers = self._subscribers.get(key, set())
                subscribers.discard(subscription)
                if not subscribers:
                    self._subscribers.pop(key, None)
                    self._newest.pop(key, None)
            self._keys_removed()

    async def close(self) -> None:
        """Cancel the hub's tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @abstractmethod
    def _keys_added(self, keys: Collection[str]) -> None:
        """Begin to watch keys that had no subscriber before."""

    def _keys_removed(self) -> None:
        """Stop what only keys without subscribers need."""

    def _publish(self, key: str, value: V) -> None:
        self.is_away = False
        changed = key in self._subscribers and self._newest.get(key) != value
        if changed:
            self._newest[key] = value
        for subscription in self._subscribers.get(key, ()):
            subscription.report_outage(None)
            if changed:
                subscription.publish(key, value)

    def _fail(self, keys: Iterable[str], error: SpooledError) -> None:
        for key in keys:
            for subscription in self._subscribers.pop(key, ()):
                subscription.fail(error)

    def _report_outage(self, keys: Iterable[str], error: SpooledError) -> None:
        self.is_away = True
        for key in keys:
            for subscription in self._subscribers.get(key, ()):
                subscription.report_outage(error)

    def _start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        # In a context of its own: in that of the trigger which came first, what this logs would be
        # written into that trigger's task.
        task = Context().run(lambda: asyncio.create_task(work()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class BatchHub(Hub[BatchStats]):
    """Batches of a server with the batch extension, by their ids."""

    def __init__(self, client: AsyncSpooledClient) -> None:
        super().__init__(client)
        self._new: list[str] = []
        self._streams: dict[asyncio.Task[None], list[str]] = {}
        self._refresher: asyncio.Task[None] | None = None

    def _keys_added(self, keys: Collection[str]) -> None:
        if not self._new and keys:
            self._start(self._gather)
        self._new += keys
        if self._refresher is None:
            self._refresher = self._start(self._refresh)

    def _keys_removed(self) -> None:
        for task, ids in list(self._streams.items()):
            open_ids = self._open(ids)
            # The stream would go on to read batches that have no subscriber.
            if 2 * len(open_ids) < len(ids):
                self._stop_stream(task)
                self._start_stream(open_ids)

    def _open(self, ids: Iterable[str]) -> list[str]:
        """Return those that have a subscriber and are not known to be settled."""
        return [
            batch_id
            for batch_id in ids
            if batch_id in self._subscribers
            and not ((newest := self._newest.get(batch_id)) and newest.settled)
        ]

    async def _gather(self) -> None:
        await asyncio.sleep(_GATHER_SECONDS)
        new, self._new = list(dict.fromkeys(self._new)), []
        for start in range(0, len(new), BATCH_IDS_PER_CALL_MAX):
            self._start_stream(self._open(new[start : start + BATCH_IDS_PER_CALL_MAX]))
        self._merge_streams()

    def _merge_streams(self) -> None:
        while len(self._streams) > _STREAMS_MAX:
            small, next_small = sorted(self._streams, key=lambda task: len(self._streams[task]))[:2]
            ids = self._open([*self._streams[small], *self._streams[next_small]])
            if len(ids) > BATCH_IDS_PER_CALL_MAX:
                return
            self._stop_stream(small)
            self._stop_stream(next_small)
            self._start_stream(ids)

    def _start_stream(self, ids: list[str]) -> None:
        if ids:
            task = self._start(partial(self._watch, ids))
            self._streams[task] = ids
            task.add_done_callback(lambda ended: self._streams.pop(ended, None))

    def _stop_stream(self, task: asyncio.Task[None]) -> None:
        self._streams.pop(task, None)
        task.cancel()

    async def _watch(self, ids: list[str]) -> None:
        """Watch until none of them is open, through any time that the server is away."""
        budget = RetryBudget(self._client.settings.retry, _FOREVER)
        while ids := self._open(ids):
            pause = _FIRST_PAUSE_SECONDS
            try:
                async with aclosing(self._client.watch_batches(ids)) as changes:
                    async for stats in changes:
                        budget.reset()
                        self._publish(stats.batch_id, stats)
            except _ERRORS_OF_ONE_BATCH as error:
                await self._isolate_error(ids, error)
            except SpooledError as error:
                delay = budget.next_delay(error)
                if delay is None:
                    self._fail(ids, error)
                else:
                    self._report_outage(ids, error)
                    pause = delay
            if self._open(ids):
                await asyncio.sleep(pause)

    async def _isolate_error(self, ids: list[str], error: SpooledError) -> None:
        """Find the batch that keeps the others from being watched: ask for each by itself."""
        if len(ids) == 1:
            self._fail(ids, error)
            return
        for batch_id in ids:
            await self._ask(batch_id)

    async def _ask(self, batch_id: str) -> None:
        try:
            (stats,) = await self._client.batch_stats([batch_id])
        except _ERRORS_OF_ONE_BATCH as error:
            self._fail([batch_id], error)
        except SpooledError:
            # The stream that comes next finds out, too.
            return
        else:
            self._publish(batch_id, stats)

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            followed = [batch_id for ids in self._streams.values() for batch_id in ids]
            # Not too many at once: other triggers share the event loop.
            for start in range(0, len(followed), _REFRESH_BATCHES):
                ids = self._open(followed[start : start + _REFRESH_BATCHES])
                # Where it fails, their streams find out, too, and say so.
                with suppress(SpooledError):
                    for stats in await self._client.batch_stats(ids):
                        self._publish(stats.batch_id, stats)


class QueueHub(Hub[QueueStats]):
    """Queues, by their names: a server does not report on a queue, so it is polled."""

    def __init__(self, client: AsyncSpooledClient, poll_seconds: float) -> None:
        super().__init__(client)
        self._poll_seconds = poll_seconds
        self._polled: set[str] = set()

    def _keys_added(self, keys: Collection[str]) -> None:
        for queue_name in keys:
            if queue_name not in self._polled:
                self._polled.add(queue_name)
                self._start(partial(self._poll, queue_name))

    async def _poll(self, queue_name: str) -> None:
        budget = RetryBudget(self._client.settings.retry, _FOREVER)
        while queue_name in self._subscribers:
            pause = self._poll_seconds
            try:
                stats = await self._client.queue_stats(queue_name)
            except SpooledError as error:
                delay = budget.next_delay(error)
                if delay is None:
                    self._fail([queue_name], error)
                    break
                self._report_outage([queue_name], error)
                pause = max(pause, delay)
            else:
                budget.reset()
                self._publish(queue_name, stats)
            await asyncio.sleep(pause)
        self._polled.discard(queue_name)
