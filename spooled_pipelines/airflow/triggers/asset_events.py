"""What starts a DAG by an asset: a batch that is done, dead letters that grow.

    Asset("orders-done", watchers=[AssetWatcher("done", trigger=BatchDoneTrigger("orders"))])

How far each of them has told is kept in the asset's state, where Airflow has one (3.3), so that
nothing is told twice or passed over where a triggerer is restarted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from spooled_pipelines.airflow.config import queue_poll_seconds
from spooled_pipelines.airflow.events import stats_dict
from spooled_pipelines.airflow.hooks.spooled import DEFAULT_CONNECTION
from spooled_pipelines.airflow.triggers.connection_pool import Shared, shared
from spooled_pipelines.batch.patience import Patience
from spooled_pipelines.errors import InvalidArgumentError, SpooledError

if TYPE_CHECKING:
    from spooled_pipelines.types import BatchStats

_STATE = "spooled"
_BATCHES_MAX = 10_000
_PAGE_MAX = 1_000
_FOREVER = float("inf")
_LONG_AGO = datetime.min.replace(tzinfo=timezone.utc)


class SpooledEventTrigger(BaseEventTrigger):
    """Attributes that are the arguments, and a memory that outlives the triggerer."""

    arguments: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
        self._last: Any = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class's path, and the arguments to make this trigger again elsewhere."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {name: getattr(self, name) for name in self.arguments},
        )

    async def _remembered(self) -> Any:
        store = getattr(self, "asset_state_store", None)
        return None if store is None else await store.aget(_STATE, None)

    async def _remember(self, value: Any) -> None:
        store = getattr(self, "asset_state_store", None)
        if store is not None and value != self._last:
            await store.aset(_STATE, value)
            self._last = value


class BatchDoneTrigger(SpooledEventTrigger):
    """An event for each batch of a queue that is settled from now on: its statistics.

    Args:
        queue_name: the queue.
        newest: how many of the queue's newest batches are looked at, 1 to 10 000. A batch that is
            settled only after so many others were made on its queue is not told.
        spooled_conn_id: the Airflow connection, of type ``spooled``. The server needs the batch
            extension.
    """

    arguments = ("queue_name", "newest", "spooled_conn_id")

    def __init__(
        self, queue_name: str, newest: int = 100, spooled_conn_id: str = DEFAULT_CONNECTION
    ) -> None:
        super().__init__()
        if not 1 <= newest <= _BATCHES_MAX:
            raise InvalidArgumentError(f"newest is {newest}, and must be 1 to {_BATCHES_MAX}")
        self.queue_name = queue_name
        self.newest = newest
        self.spooled_conn_id = spooled_conn_id

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look from time to time, through any time that the server is away."""
        async with shared(self.spooled_conn_id) as connection:
            told = _Told.from_state(await self._remembered())
            patience = Patience(connection.client.settings.retry, _FOREVER)
            while True:
                pause = queue_poll_seconds()
                try:
                    found = await self._look(connection)
                except SpooledError as error:
                    delay = patience.delay(error)
                    if delay is None:
                        raise
                    pause = max(pause, delay)
                else:
                    patience.moved()
                    for stats in told.news(found):
                        yield TriggerEvent(stats_dict(stats))  # type: ignore[no-untyped-call]
                    # Only now: what is told twice does less harm than what is never told.
                    await self._remember(told.state())
                await asyncio.sleep(pause)

    async def _look(self, connection: Shared) -> list[BatchStats]:
        from spooled_pipelines.rpc import methods
        from spooled_pipelines.rpc.decode import batch_stats_from
        from spooled_pipelines.wire import batch_v1

        found: list[BatchStats] = []
        method, token = methods.BATCH["ListBatches"], ""
        while len(found) < self.newest:
            request = batch_v1.ListBatchesRequest(
                queue_name=self.queue_name,
                page_size=min(self.newest - len(found), _PAGE_MAX),
                page_token=token,
            )
            answer = await connection.client.calls.unary(method, request, repeatable=True)
            found += [batch_stats_from(message) for message in answer.batches]
            token = answer.next_page_token
            if not token:
                break
        return found


class DeadLettersTrigger(SpooledEventTrigger):
    """An event each time that a queue has more dead letters than it had: how many, how many new.

    Args:
        queue_name: the queue.
        at_least: how many more there have to be for an event.
        spooled_conn_id: the Airflow connection, of type ``spooled``.
    """

    arguments = ("queue_name", "at_least", "spooled_conn_id")

    def __init__(
        self, queue_name: str, at_least: int = 1, spooled_conn_id: str = DEFAULT_CONNECTION
    ) -> None:
        super().__init__()
        if at_least < 1:
            raise InvalidArgumentError(f"at_least is {at_least}, and must be 1 or more")
        self.queue_name = queue_name
        self.at_least = at_least
        self.spooled_conn_id = spooled_conn_id

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look from time to time, through any time that the server is away."""
        async with (
            shared(self.spooled_conn_id) as connection,
            connection.changes_of_queue(self.queue_name) as changes,
        ):
            before: int | None = await self._remembered()
            while found := await changes.news(None):
                now = found[-1].deadletter
                if before is not None and now - before >= self.at_least:
                    event = {"queue_name": self.queue_name, "dead_letters": now}
                    yield TriggerEvent({**event, "new": now - before})  # type: ignore[no-untyped-call]
                    before = now
                elif before is None or now < before:
                    # Some were put back: what dies from now on is new.
                    before = now
                await self._remember(before)


class _Told:
    """Which batches were told of: those that were settled up to a moment, the server's."""

    def __init__(self, up_to: datetime | None, ids: Sequence[str]) -> None:
        self._up_to = up_to
        self._ids = set(ids)

    @classmethod
    def from_state(cls, state: Any) -> _Told:
        if not isinstance(state, dict):
            return cls(None, ())
        return cls(datetime.fromisoformat(state["up_to"]), state["ids"])

    def state(self) -> dict[str, Any]:
        return {"up_to": (self._up_to or _LONG_AGO).isoformat(), "ids": sorted(self._ids)}

    def news(self, found: Sequence[BatchStats]) -> list[BatchStats]:
        """Those that are settled and were not told of yet, oldest first. At first: none."""
        settled = sorted(
            (stats for stats in found if stats.settled),
            key=lambda stats: stats.changed_at or _LONG_AGO,
        )
        news = []
        for stats in settled:
            moment = stats.changed_at or _LONG_AGO
            is_new = self._up_to is not None and (
                moment > self._up_to or (moment == self._up_to and stats.batch_id not in self._ids)
            )
            if is_new:
                news.append(stats)
        for stats in settled:
            self._note(stats)
        if self._up_to is None:
            self._up_to = _LONG_AGO
        return news

    def _note(self, stats: BatchStats) -> None:
        moment = stats.changed_at or _LONG_AGO
        if self._up_to is None or moment > self._up_to:
            self._up_to, self._ids = moment, set()
        if moment == self._up_to:
            self._ids.add(stats.batch_id)
