"""The triggers that start a DAG by an asset: a batch that is done, dead letters that grow.

    Asset("orders-done", watchers=[AssetWatcher("done", trigger=BatchDoneTrigger("orders"))])

Each of them keeps in the asset's state what it has reported, where Airflow has one (3.3), so that
it reports nothing twice and passes nothing over when a triggerer is restarted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime, timezone
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from spooled_pipelines.airflow.handover.events import batch_stats_dict
from spooled_pipelines.airflow.hooks import DEFAULT_CONNECTION
from spooled_pipelines.airflow.platform.config import queue_poll_seconds
from spooled_pipelines.airflow.triggers.connection_pool import READ_AGAIN_SECONDS, pooled_client
from spooled_pipelines.batch.flow_control import RetryBudget
from spooled_pipelines.errors import InvalidArgumentError, SpooledError

if TYPE_CHECKING:
    from spooled_pipelines.types import BatchStats

_STATE = "spooled"
_BATCHES_MAX = 10_000
_FOREVER = float("inf")
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 2.0, 60.0
_LOG_AGAIN_SECONDS = 600.0
_LONG_AGO = datetime.min.replace(tzinfo=timezone.utc)


class SpooledEventTrigger(BaseEventTrigger):
    """A trigger whose attributes are its arguments, with a state that outlives the triggerer."""

    # Airflow stores the trigger under this path, which must not change.
    path: ClassVar[str]
    arguments: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
        self._stored: Any = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path, and the arguments to make this trigger again elsewhere."""
        return self.path, {name: getattr(self, name) for name in self.arguments}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield events, through any time that the server or the connection is of no use."""
        pause, logged = _FIRST_PAUSE_SECONDS, -_FOREVER
        while True:
            try:
                async for event in self._events():
                    pause, logged = _FIRST_PAUSE_SECONDS, -_FOREVER
                    yield event
            except SpooledError as error:
                # Airflow would start it again every other second, with a traceback each time.
                if monotonic() - logged >= _LOG_AGAIN_SECONDS:
                    logged = monotonic()
                    self.log.error("Nothing can be watched now; trying again: %s", error.message)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE_SECONDS)

    def _events(self) -> AsyncIterator[TriggerEvent]:
        """Yield events until nothing can be learned.

        Raises:
            SpooledError: why.
        """
        raise NotImplementedError

    async def _load_state(self) -> Any:
        store = getattr(self, "asset_state_store", None)
        return None if store is None else await store.aget(_STATE, None)

    async def _store_state(self, value: Any) -> None:
        store = getattr(self, "asset_state_store", None)
        if store is not None and value != self._stored:
            await store.aset(_STATE, value)
            self._stored = value


class BatchDoneTrigger(SpooledEventTrigger):
    """Yields the statistics of each batch of a queue that is settled from now on.

    Args:
        queue_name: the queue.
        newest: how many of the queue's newest batches are looked at, 1 to 10,000. A batch that is
            settled only after that many others were made on its queue is not reported.
        spooled_conn_id: the Airflow connection, of type ``spooled``. The server needs the batch
            extension.
    """

    path = "spooled_pipelines.airflow.triggers.BatchDoneTrigger"
    arguments = ("queue_name", "newest", "spooled_conn_id")

    def __init__(
        self, queue_name: str, newest: int = 100, spooled_conn_id: str = DEFAULT_CONNECTION
    ) -> None:
        super().__init__()
        if not 1 <= newest <= _BATCHES_MAX:
            raise InvalidArgumentError(f"newest must be 1 to {_BATCHES_MAX}, got {newest}")
        self.queue_name = queue_name
        self.newest = newest
        self.spooled_conn_id = spooled_conn_id

    async def _events(self) -> AsyncIterator[TriggerEvent]:
        """Look from time to time, through any time that the server is away."""
        async with pooled_client(self.spooled_conn_id) as pooled:
            reported = _ReportedBatches.from_state(await self._load_state())
            budget = RetryBudget(pooled.client.settings.retry, _FOREVER)
            while True:
                pause = queue_poll_seconds()
                try:
                    batches = await pooled.client.batches(self.queue_name, limit=self.newest)
                except SpooledError as error:
                    delay = budget.next_delay(error)
                    if delay is None:
                        raise
                    pause = max(pause, delay)
                    if await pooled.connection_changed(READ_AGAIN_SECONDS):
                        return
                else:
                    budget.reset()
                    for stats in reported.take_new(batches):
                        yield TriggerEvent(batch_stats_dict(stats))  # type: ignore[no-untyped-call]
                    # Only now: an event too many does less harm than one that is missing.
                    await self._store_state(reported.state())
                await asyncio.sleep(pause)


class DeadLettersTrigger(SpooledEventTrigger):
    """Yields an event each time that a queue has more dead letters than it had.

    The event says how many there are, and how many of them are new.

    Args:
        queue_name: the queue.
        at_least: how many new ones make an event.
        spooled_conn_id: the Airflow connection, of type ``spooled``.
    """

    path = "spooled_pipelines.airflow.triggers.DeadLettersTrigger"
    arguments = ("queue_name", "at_least", "spooled_conn_id")

    def __init__(
        self, queue_name: str, at_least: int = 1, spooled_conn_id: str = DEFAULT_CONNECTION
    ) -> None:
        super().__init__()
        if at_least < 1:
            raise InvalidArgumentError(f"at_least must be 1 or more, got {at_least}")
        self.queue_name = queue_name
        self.at_least = at_least
        self.spooled_conn_id = spooled_conn_id

    async def _events(self) -> AsyncIterator[TriggerEvent]:
        """Look from time to time, through any time that the server is away."""
        async with pooled_client(self.spooled_conn_id) as pooled:
            before: int | None = await self._load_state()
            with pooled.queues.subscription([self.queue_name]) as changes:
                while True:
                    updates = await changes.next_updates(READ_AGAIN_SECONDS)
                    if not updates:
                        if changes.outage and await pooled.connection_changed(READ_AGAIN_SECONDS):
                            return
                        continue
                    now = updates[-1].deadletter
                    if before is not None and now - before >= self.at_least:
                        event = {"queue_name": self.queue_name, "dead_letters": now}
                        yield TriggerEvent({**event, "new": now - before})  # type: ignore[no-untyped-call]
                        before = now
                    elif before is None or now < before:
                        # Some were retried: what dies from now on is new.
                        before = now
                    await self._store_state(before)


class _ReportedBatches:
    """The batches that were reported: those settled up to a moment, by the server's clock."""

    def __init__(self, up_to: datetime | None, ids: Collection[str]) -> None:
        self._up_to = up_to
        self._ids = set(ids)

    @classmethod
    def from_state(cls, state: Any) -> _ReportedBatches:
        if not isinstance(state, dict):
            return cls(None, ())
        return cls(datetime.fromisoformat(state["up_to"]), state["ids"])

    def state(self) -> dict[str, Any]:
        return {"up_to": (self._up_to or _LONG_AGO).isoformat(), "ids": sorted(self._ids)}

    def take_new(self, batches: Sequence[BatchStats]) -> list[BatchStats]:
        """Return those that are settled and were not reported, oldest first. At first: none."""
        settled = sorted((stats for stats in batches if stats.settled), key=_settled_at)
        new = [stats for stats in settled if self._is_new(stats)]
        for stats in settled:
            moment = _settled_at(stats)
            if self._up_to is None or moment > self._up_to:
                self._up_to, self._ids = moment, set()
            if moment == self._up_to:
                self._ids.add(stats.batch_id)
        if self._up_to is None:
            self._up_to = _LONG_AGO
        return new

    def _is_new(self, stats: BatchStats) -> bool:
        if self._up_to is None:
            return False
        moment = _settled_at(stats)
        return moment > self._up_to or (moment == self._up_to and stats.batch_id not in self._ids)


def _settled_at(stats: BatchStats) -> datetime:
    return stats.changed_at or _LONG_AGO
