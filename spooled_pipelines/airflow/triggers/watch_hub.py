"""Who waits for what, told apart: many batches on few streams, one look at a queue for all.

A triggerer waits for a thousand batches at once. A stream for each would be a thousand calls on the
server and as many tasks here, so batches that come close together share one, and where there are
more than a few streams the two smallest become one.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Coroutine, Iterable
from functools import partial
from typing import Any, Generic, TypeVar

from spooled_pipelines.batch.aio.rpcs import stats_of
from spooled_pipelines.batch.patience import Patience
from spooled_pipelines.errors import (
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    SpooledError,
)
from spooled_pipelines.rpc import methods, requests
from spooled_pipelines.rpc.aio.connection import AsyncCalls
from spooled_pipelines.rpc.decode import batch_stats_from, queue_stats_from
from spooled_pipelines.types import BatchStats, QueueStats
from spooled_pipelines.wire import batch_v1
from spooled_pipelines.wire.limits import BATCH_IDS_PER_CALL_MAX

# Batches that come within this are put on one stream.
_GATHER_SECONDS = 0.1
_STREAMS = 4
# A server says nothing of a batch that stands still, and it may have begun to know why.
_LOOK_AGAIN_SECONDS = 30.0
_LOOK_AT = 100
_ANSWER_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.1
_FOREVER = float("inf")
# What a server says of one batch among many.
_ITS_OWN_FAULT = (InvalidArgumentError, NotFoundError, PermissionDeniedError)

V = TypeVar("V")


class Subscription(Generic[V]):
    """What became known of some keys since it was last asked for.

    Attributes:
        away: why nothing can be learned at the moment; None while the server answers.
    """

    def __init__(self, keys: Collection[str]) -> None:
        self.keys = frozenset(keys)
        self.away: SpooledError | None = None
        self._fresh: dict[str, V] = {}
        self._error: SpooledError | None = None
        self._news = asyncio.Event()

    async def news(self, seconds: float | None) -> list[V]:
        """Waits for something new, and returns the newest of each key; nothing once time is up.

        Raises:
            SpooledError: nothing more will come, and why.
        """
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except asyncio.TimeoutError:
            return []
        if self._error is not None:
            raise self._error
        self._news.clear()
        found = list(self._fresh.values())
        self._fresh.clear()
        return found

    def tell(self, key: str, value: V) -> None:
        self.away = None
        self._fresh[key] = value
        self._news.set()

    def fail(self, error: SpooledError) -> None:
        self._error = error
        self._news.set()


class Watch(ABC, Generic[V]):
    """Subscriptions by key, and the newest value of each."""

    def __init__(self, calls: AsyncCalls) -> None:
        self._calls = calls
        self._subscribers: dict[str, set[Subscription[V]]] = {}
        self._newest: dict[str, V] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def subscribe(self, keys: Collection[str]) -> Subscription[V]:
        """Begin to tell of these."""
        subscription: Subscription[V] = Subscription(keys)
        for key in subscription.keys:
            if key in self._newest:
                subscription.tell(key, self._newest[key])
            self._subscribers.setdefault(key, set()).add(subscription)
        self._begin([key for key in subscription.keys if len(self._subscribers[key]) == 1])
        return subscription

    def unsubscribe(self, subscription: Subscription[V]) -> None:
        """Tell it nothing any more."""
        for key in subscription.keys:
            waiting = self._subscribers.get(key, set())
            waiting.discard(subscription)
            if not waiting:
                self._subscribers.pop(key, None)
                self._newest.pop(key, None)
        self._end()

    async def close(self) -> None:
        """End what runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @abstractmethod
    def _begin(self, keys: Collection[str]) -> None:
        """These are wanted now, and were not before."""

    def _end(self) -> None:
        """Some may not be wanted any more."""

    def _tell(self, key: str, value: V) -> None:
        if key in self._subscribers and self._newest.get(key) != value:
            self._newest[key] = value
            for subscription in self._subscribers[key]:
                subscription.tell(key, value)

    def _give_up(self, keys: Iterable[str], error: SpooledError) -> None:
        for key in keys:
            for subscription in self._subscribers.pop(key, ()):
                subscription.fail(error)

    def _away(self, keys: Iterable[str], error: SpooledError) -> None:
        for key in keys:
            for subscription in self._subscribers.get(key, ()):
                subscription.away = error

    def _start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        task = asyncio.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class BatchWatch(Watch[BatchStats]):
    """Batches of a server with the batch extension, by their ids."""

    def __init__(self, calls: AsyncCalls) -> None:
        super().__init__(calls)
        self._new: list[str] = []
        self._streams: dict[asyncio.Task[None], list[str]] = {}
        self._looking: asyncio.Task[None] | None = None

    def _begin(self, keys: Collection[str]) -> None:
        if not self._new and keys:
            self._start(self._gather)
        self._new += keys
        if self._looking is None:
            self._looking = self._start(self._look_again)

    def _end(self) -> None:
        for task, ids in list(self._streams.items()):
            wanted = self._open(ids)
            # A stream goes on to read batches that nobody waits for any more.
            if 2 * len(wanted) < len(ids):
                self._stop(task)
                self._follow(wanted)

    def _open(self, ids: Iterable[str]) -> list[str]:
        """Those that somebody waits for, and that are not settled as far as we know."""
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
            self._follow(self._open(new[start : start + BATCH_IDS_PER_CALL_MAX]))
        self._join()

    def _join(self) -> None:
        while len(self._streams) > _STREAMS:
            small, next_small = sorted(self._streams, key=lambda task: len(self._streams[task]))[:2]
            ids = self._open([*self._streams[small], *self._streams[next_small]])
            if len(ids) > BATCH_IDS_PER_CALL_MAX:
                return
            self._stop(small)
            self._stop(next_small)
            self._follow(ids)

    def _follow(self, ids: list[str]) -> None:
        if ids:
            task = self._start(partial(self._stream, ids))
            self._streams[task] = ids
            task.add_done_callback(lambda ended: self._streams.pop(ended, None))

    def _stop(self, task: asyncio.Task[None]) -> None:
        self._streams.pop(task, None)
        task.cancel()

    async def _stream(self, ids: list[str]) -> None:
        """Until none of them is open, through any time that the server is away."""
        patience = Patience(self._calls.settings.retry, _FOREVER)
        while ids := self._open(ids):
            request = batch_v1.WatchBatchRequest(batch_ids=ids, milestones=True)
            stream = self._calls.stream(methods.BATCH["WatchBatch"], request)
            pause = _FIRST_PAUSE_SECONDS
            try:
                async for message in stream:
                    patience.moved()
                    stats = batch_stats_from(message)
                    self._tell(stats.batch_id, stats)
            except _ITS_OWN_FAULT as error:
                await self._sort_out(ids, error)
            except SpooledError as error:
                delay = patience.delay(error)
                if delay is None:
                    self._give_up(ids, error)
                else:
                    self._away(ids, error)
                    pause = delay
            finally:
                stream.cancel()
            if self._open(ids):
                await asyncio.sleep(pause)

    async def _sort_out(self, ids: list[str], error: SpooledError) -> None:
        """One of them is why the others cannot be watched: ask for each by itself."""
        if len(ids) == 1:
            self._give_up(ids, error)
            return
        for batch_id in ids:
            await self._ask(batch_id)

    async def _ask(self, batch_id: str) -> None:
        try:
            (stats,) = await stats_of(self._calls, [batch_id])
        except _ITS_OWN_FAULT as error:
            self._give_up([batch_id], error)
        except SpooledError:
            # The stream that comes next finds out, too.
            return
        else:
            self._tell(batch_id, stats)

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            followed = [batch_id for ids in self._streams.values() for batch_id in ids]
            # Not too many at once: others wait for the event loop, too.
            for start in range(0, len(followed), _LOOK_AT):
                await self._look(self._open(followed[start : start + _LOOK_AT]))

    async def _look(self, ids: list[str]) -> None:
        # Where it fails their streams find out, too, and say so.
        with contextlib.suppress(SpooledError):
            for stats in await stats_of(self._calls, ids):
                self._tell(stats.batch_id, stats)


class QueueWatch(Watch[QueueStats]):
    """Queues, by their names. No server tells of a queue by itself, so it is asked."""

    def __init__(self, calls: AsyncCalls, seconds: float) -> None:
        super().__init__(calls)
        self._seconds = seconds
        self._asked: set[str] = set()

    def _begin(self, keys: Collection[str]) -> None:
        for queue_name in keys:
            if queue_name not in self._asked:
                self._asked.add(queue_name)
                self._start(partial(self._ask, queue_name))

    async def _ask(self, queue_name: str) -> None:
        patience = Patience(self._calls.settings.retry, _FOREVER)
        method, request = methods.QUEUE["GetQueueStats"], requests.queue_stats(queue_name)
        while queue_name in self._subscribers:
            pause = self._seconds
            try:
                answer = await self._calls.unary(
                    method, request, timeout=_ANSWER_SECONDS, repeatable=True
                )
            except SpooledError as error:
                delay = patience.delay(error)
                if delay is None:
                    self._give_up([queue_name], error)
                    break
                self._away([queue_name], error)
                pause = max(pause, delay)
            else:
                patience.moved()
                self._tell(queue_name, queue_stats_from(answer))
            await asyncio.sleep(pause)
        self._asked.discard(queue_name)
