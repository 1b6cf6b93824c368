"""What waits in the triggerer: for batches, for a queue, and for what starts a DAG.

One event loop serves up to a thousand triggers, so nothing here may hold it up: gRPC is loaded in
a thread, and neither pandas nor pyarrow ever. All triggers that use the same connection share one
client, and the batches among them a few streams. A trigger only reads, since for a while two
triggerers may run the same one.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from spooled_pipelines.airflow.batch_refs import Together, batches_of, one_or_all
from spooled_pipelines.airflow.events import (
    Progress,
    Steps,
    ended_event,
    error_event,
    queue_dict,
    queue_standing,
    shortened,
    stats_dict,
)
from spooled_pipelines.airflow.hooks.spooled import DEFAULT_CONNECTION
from spooled_pipelines.airflow.on_kill import cancel_after_kill
from spooled_pipelines.airflow.sensors.queue_condition import check_conditions
from spooled_pipelines.airflow.triggers.connection_pool import Shared, plain_stats, shared
from spooled_pipelines.batch.outcome.verdict import breached, failed_error, timeout_error
from spooled_pipelines.errors import BatchFailedError, BatchTimeoutError, SpooledError
from spooled_pipelines.types import BatchStats, QueueStats

# How long to ask, when a wait has run out of time, what it is that holds the batch back.
_LAST_LOOK_SECONDS = 5.0


class SpooledTrigger(BaseTrigger):
    """Attributes that are the arguments; fires once, through any time that the server is away."""

    # What `serialize` stores, in Airflow's database and as it is: no secret may be among it.
    arguments: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
        self.spooled_conn_id = DEFAULT_CONNECTION
        self.deadline: float | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class's path, and the arguments to make this trigger again elsewhere."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {name: getattr(self, name) for name in self.arguments},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event."""
        try:
            async with shared(self.spooled_conn_id) as connection:
                event = await self._wait(connection)
        except SpooledError as error:
            event = error_event(error)
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]  # as above

    @abstractmethod
    async def _wait(self, connection: Shared) -> dict[str, Any]:
        """The event to fire with."""

    def _seconds_left(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - time.time())


class BatchTrigger(SpooledTrigger):
    """Fires when the batches are settled, have failed for certain, or the deadline is there.

    Args:
        batch: what `Batch.to_dict` gives, or a list of that: they are judged together.
        spooled_conn_id: the Airflow connection, of type ``spooled``.
        max_failed: how many jobs may fail, as a count or as a fraction of all.
        deadline: when to give up, in seconds since the epoch; None means never. Airflow itself
            does not watch a deferred task's time-outs closely enough.
        cancel_on_kill: whether the jobs that have not started are cancelled where somebody marks
            the task failed or success while it waits.
    """

    arguments = ("batch", "spooled_conn_id", "max_failed", "deadline", "cancel_on_kill")

    def __init__(
        self,
        batch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        spooled_conn_id: str = DEFAULT_CONNECTION,
        max_failed: float = 0,
        deadline: float | None = None,
        cancel_on_kill: bool = False,
    ) -> None:
        super().__init__()
        self.batch = batch
        self.spooled_conn_id = spooled_conn_id
        self.max_failed = max_failed
        self.deadline = deadline
        self.cancel_on_kill = cancel_on_kill

    async def on_kill(self) -> None:
        """Somebody acted on the task; not called where a triggerer hands over or ends."""
        if self.cancel_on_kill:
            await cancel_after_kill(
                self.spooled_conn_id, self._batches(), self.task_instance, self.log
            )

    async def _wait(self, connection: Shared) -> dict[str, Any]:
        try:
            stats = await self._settled(connection)
        except BatchFailedError as error:
            event = ended_event("failed", error)
        except BatchTimeoutError as error:
            event = ended_event("timeout", error)
        else:
            event = {"status": "settled", "stats": stats_dict(stats)}
        # Nothing that the task knew before it was deferred is known when it resumes.
        return {**event, "batch": self.batch} if isinstance(self.batch, Mapping) else event

    async def _settled(self, connection: Shared) -> BatchStats:
        batches = self._batches()
        together = Together(batch["batch_id"] for batch in batches)
        progress = Progress(self.log.info)
        given = self._seconds_left()
        async with connection.changes_of(batches) as changes:
            while found := await changes.news(self._seconds_left()):
                for one in found:
                    together.put(one)
                now = together.stats()
                if now is None:
                    continue
                progress(now)
                if breached(now, self.max_failed):
                    raise failed_error(now, self.max_failed)
                if now.settled:
                    return now
            away = changes.away
        # What was seen last may be long past, and stalls come with time alone.
        try:
            for one in await _stats(connection, batches):
                together.put(one)
        except SpooledError as error:
            away = error
        else:
            away = None
        raise timeout_error(together.stats(), given or 0.0, away, one_or_all(batches))

    def _batches(self) -> list[dict[str, Any]]:
        return batches_of(self.batch, "empty")


class QueueTrigger(SpooledTrigger):
    """Fires when a queue's statistics fulfil a condition, or the deadline is there.

    Args:
        queue_name: the queue.
        until: what to wait for, such as ``"pending == 0 and processing == 0"``.
        fail_if: what to give up at, such as ``"deadletter > 10"``; None: nothing.
        spooled_conn_id: the Airflow connection, of type ``spooled``.
        deadline: when to give up, in seconds since the epoch; None means never.
    """

    arguments = ("queue_name", "until", "fail_if", "spooled_conn_id", "deadline")

    def __init__(
        self,
        queue_name: str,
        until: str,
        fail_if: str | None = None,
        spooled_conn_id: str = DEFAULT_CONNECTION,
        deadline: float | None = None,
    ) -> None:
        super().__init__()
        self.queue_name = queue_name
        self.until = until
        self.fail_if = fail_if
        self.spooled_conn_id = spooled_conn_id
        self.deadline = deadline

    async def _wait(self, connection: Shared) -> dict[str, Any]:
        until = check_conditions(self.until, "until")
        fail_if = check_conditions(self.fail_if, "fail_if") if self.fail_if else None
        last: QueueStats | None = None
        say = Steps(self.log.info)
        async with connection.changes_of_queue(self.queue_name) as changes:
            while found := await changes.news(self._seconds_left()):
                last = found[-1]
                line = queue_standing(last)
                say(line, line)
                stats = queue_dict(last)
                if fail_if and fail_if(stats):
                    message = f"{line} That is {self.fail_if}."
                    return {"status": "failed", "stats": stats, "message": shortened(message)}
                if until(stats):
                    return {"status": "settled", "stats": stats}
            away = changes.away
        why = away.message if away else queue_standing(last) if last else "Nothing was learned."
        message = f"Queue {self.queue_name} is not at {self.until}. {why}"
        return {"status": "timeout", "stats": None, "message": shortened(message)}


async def _stats(connection: Shared, batches: Sequence[Mapping[str, Any]]) -> list[BatchStats]:
    """One look at all of them."""
    from spooled_pipelines.batch.aio.rpcs import stats_of

    if any(batch.get("extension") is False for batch in batches):
        names = dict.fromkeys(batch["queue_name"] for batch in batches)
        return plain_stats(batches, [await connection.client.queue_stats(name) for name in names])
    ids = [batch["batch_id"] for batch in batches]
    return await stats_of(connection.client.calls, ids, _LAST_LOOK_SECONDS)
