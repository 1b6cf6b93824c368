"""The triggers that wait for batches and for a queue on behalf of a deferred task.

One event loop serves up to a thousand triggers, so nothing here may hold it up: gRPC is loaded in
a thread, and neither pandas nor pyarrow ever. All triggers that use the same connection share one
client, and the batches among them a few streams. A trigger only reads, since for a while two
triggerers may run the same one.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from spooled_pipelines.airflow.arguments import queue_condition
from spooled_pipelines.airflow.arguments.queue_condition import OnMissing
from spooled_pipelines.airflow.handover.batch_refs import (
    BatchGroupStats,
    BatchRef,
    name_batches,
    parse_batch_refs,
)
from spooled_pipelines.airflow.handover.events import (
    EventStatus,
    WaitEvent,
    batch_stats_dict,
    queue_stats_dict,
)
from spooled_pipelines.airflow.hooks import DEFAULT_CONNECTION, server_of
from spooled_pipelines.airflow.on_kill import CANCELLED, NOT_CANCELLED
from spooled_pipelines.airflow.platform.versions import TaskDeferred
from spooled_pipelines.airflow.triggers.connection_pool import PooledClient, pooled_client
from spooled_pipelines.batch.outcome.verdict import breached, failed_error, timeout_error
from spooled_pipelines.errors import AuthenticationError, BatchError, BatchFailedError, SpooledError
from spooled_pipelines.orchestration.progress_log import ProgressLogger, describe_queue
from spooled_pipelines.types import BatchStats, QueueStats

# All tasks that wait learn of a key that has ended at the same time.
_KEY_SECONDS = 1.0
# How long to ask, when a wait has run out of time, for what holds the batch back.
_LAST_LOOK_SECONDS = 5.0
# Airflow's own watch over deferred tasks looks every 15 s and gives no cause: it is there only for
# a triggerer that does not run at all.
_BACKSTOP_SECONDS = 60.0
# The states of a task that will not run again.
_ENDED = frozenset({"failed", "success", "skipped", "upstream_failed", "removed"})


class SpooledTrigger(BaseTrigger):
    """A trigger that fires once, and waits through any time that the server is away.

    Its attributes are its arguments.
    """

    # Airflow finds the class by this path for as long as a task is deferred.
    path: ClassVar[str]
    # Airflow stores these in its database as they are: no secret may be among them.
    arguments: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
        self.spooled_conn_id = DEFAULT_CONNECTION
        self.deadline: float | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path, and the arguments to make this trigger again elsewhere."""
        return self.path, {name: getattr(self, name) for name in self.arguments}

    def deferral(self, log: Any, **kwargs: Any) -> TaskDeferred:
        """Return what a task raises to go on in `execute_complete` once this has fired."""
        seconds = self._seconds_left() or 0.0
        log.info(
            "Deferred for at most %s: a triggerer goes on to wait, and writes here what happens. "
            "If no line follows, none runs: start one with `airflow triggerer`.",
            str(timedelta(seconds=round(seconds))).removesuffix(", 0:00:00"),
        )
        return TaskDeferred(
            trigger=self,
            method_name="execute_complete",
            kwargs=kwargs or None,
            timeout=timedelta(seconds=seconds + _BACKSTOP_SECONDS),
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event."""
        while (event := await self._event()) is None:
            message = "The Airflow connection %r was changed: the wait goes on with what it says."
            self.log.info(message, self.spooled_conn_id)
        yield TriggerEvent(event.to_payload())  # type: ignore[no-untyped-call]  # as above

    async def _event(self) -> WaitEvent | None:
        """Return the event to fire with; None where the connection has to be read again.

        So somebody who mends a connection need not clear the tasks that wait.
        """
        try:
            async with pooled_client(self.spooled_conn_id) as pooled:
                return await self._wait_unless_changed(pooled)
        except SpooledError as error:
            return WaitEvent.of_error(error)

    async def _wait_unless_changed(self, pooled: PooledClient) -> WaitEvent | None:
        waiting = asyncio.create_task(self._wait(pooled))
        changed = asyncio.create_task(pooled.until_changed())
        try:
            await asyncio.wait((waiting, changed), return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
        except AuthenticationError:
            if not await pooled.connection_changed(_KEY_SECONDS):
                raise
        finally:
            for task in (waiting, changed):
                task.cancel()
            await asyncio.gather(waiting, changed, return_exceptions=True)
        return None

    @abstractmethod
    async def _wait(self, pooled: PooledClient) -> WaitEvent:
        """Return the event to fire with."""

    def _seconds_left(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - time.time())


class BatchTrigger(SpooledTrigger):
    """Fires when the batches are settled, have failed for certain, or the deadline is there.

    Args:
        batch: what `Batch.to_dict` returns, or a list of that: they are judged together.
        spooled_conn_id: the Airflow connection, of type ``spooled``.
        max_failed: how many jobs may fail, as a count or as a fraction of all.
        deadline: when to give up, in seconds since the epoch; None means never. Airflow itself
            does not watch a deferred task's time-outs closely enough.
        cancel_on_kill: whether the jobs that have not started are cancelled when somebody marks
            the task failed or success while it waits.
        allow_expired: whether jobs that expired do not count as failures.
    """

    path = "spooled_pipelines.airflow.triggers.BatchTrigger"
    arguments = (
        "batch",
        "spooled_conn_id",
        "max_failed",
        "deadline",
        "cancel_on_kill",
        "allow_expired",
    )

    def __init__(
        self,
        batch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        spooled_conn_id: str = DEFAULT_CONNECTION,
        max_failed: float = 0,
        deadline: float | None = None,
        cancel_on_kill: bool = False,
        allow_expired: bool = False,
    ) -> None:
        super().__init__()
        self.batch = batch
        self.spooled_conn_id = spooled_conn_id
        self.max_failed = max_failed
        self.deadline = deadline
        self.cancel_on_kill = cancel_on_kill
        self.allow_expired = allow_expired

    @classmethod
    def waiting_for(cls, batches: Sequence[BatchRef], *arguments: Any) -> BatchTrigger:
        """Return the trigger that waits for these batches, once they are sealed."""
        stored = [batch.without_parts().to_dict() for batch in batches]
        return cls(stored[0] if len(stored) == 1 else stored, *arguments)

    async def on_kill(self) -> None:
        """Cancel what has not started, unless the task is to run again.

        Airflow calls this when somebody acts on the task, not when a triggerer ends or hands over.
        A task that is cleared continues with its batch.
        """
        if not self.cancel_on_kill:
            return
        state = await asyncio.to_thread(_task_state, self.task_instance, self.log)
        if state is not None and state not in _ENDED:
            self.log.info("The task is %s: its jobs stay for its next run", state or "cleared")
            return
        try:
            async with pooled_client(self.spooled_conn_id) as pooled:
                for ref in self._refs():
                    done = await pooled.client.batch(ref.to_dict()).cancel()
                    self.log.info(CANCELLED, ref.batch_id, done.cancelled, done.running, done.done)
        except SpooledError as error:
            self.log.warning(NOT_CANCELLED, error.message)

    async def _wait(self, pooled: PooledClient) -> WaitEvent:
        try:
            stats: BatchStats | None = await self._settled(pooled)
            status, message = EventStatus.SETTLED, ""
        except BatchError as error:
            failed = isinstance(error, BatchFailedError)
            status = EventStatus.FAILED if failed else EventStatus.TIMEOUT
            stats, message = error.stats, error.message
        return WaitEvent(
            status,
            message,
            None if stats is None else batch_stats_dict(stats),
            dict(self.batch) if isinstance(self.batch, Mapping) else None,
        )

    async def _settled(self, pooled: PooledClient) -> BatchStats:
        refs = self._refs()
        group = BatchGroupStats(ref.batch_id for ref in refs)
        progress = ProgressLogger(self.log, server_of(self.spooled_conn_id))
        with pooled.watch_batches(refs) as changes:
            while updates := await changes.next_updates(self._seconds_left(), progress.outage):
                for stats in updates:
                    group.update(stats)
                now = group.total()
                if now is None:
                    continue
                progress.batch(now)
                if breached(now, self.max_failed, self.allow_expired):
                    raise failed_error(now, self.max_failed)
                if now.settled:
                    return now
        # The last update may be old, and a stall appears without one.
        outage = None
        try:
            for stats in await pooled.client.batch_stats(
                [ref.to_dict() for ref in refs], timeout=_LAST_LOOK_SECONDS
            ):
                group.update(stats)
        except SpooledError as error:
            outage = error
        raise timeout_error(group.total(), None, outage, name_batches(refs))

    def _refs(self) -> list[BatchRef]:
        return parse_batch_refs(self.batch, "nothing")


class QueueTrigger(SpooledTrigger):
    """Fires when a queue's statistics fulfil a condition, or the deadline is there.

    Args:
        queue_name: the queue.
        until: what to wait for, such as ``"pending == 0 and processing == 0"``.
        fail_if: what to give up at, such as ``"deadletter > 10"``; None: nothing.
        spooled_conn_id: the Airflow connection, of type ``spooled``.
        deadline: when to give up, in seconds since the epoch; None means never.
        on_missing: ``"wait"``: a queue of which the server knows no job fulfils no condition.
    """

    path = "spooled_pipelines.airflow.triggers.QueueTrigger"
    arguments = ("queue_name", "until", "fail_if", "spooled_conn_id", "deadline", "on_missing")

    def __init__(
        self,
        queue_name: str,
        until: str,
        fail_if: str | None = None,
        spooled_conn_id: str = DEFAULT_CONNECTION,
        deadline: float | None = None,
        on_missing: OnMissing = "wait",
    ) -> None:
        super().__init__()
        self.queue_name = queue_name
        self.on_missing = on_missing
        self.until = until
        self.fail_if = fail_if
        self.spooled_conn_id = spooled_conn_id
        self.deadline = deadline

    async def _wait(self, pooled: PooledClient) -> WaitEvent:
        until = queue_condition.parse(self.until, "until")
        fail_if = queue_condition.parse(self.fail_if, "fail_if") if self.fail_if else None
        last: QueueStats | None = None
        progress = ProgressLogger(self.log, server_of(self.spooled_conn_id))
        with pooled.queues.subscription([self.queue_name]) as changes:
            while updates := await changes.next_updates(self._seconds_left(), progress.outage):
                last = updates[-1]
                progress.queue(last)
                stats = queue_stats_dict(last)
                if fail_if and fail_if(stats):
                    message = f"{describe_queue(last)} That is {self.fail_if}."
                    return WaitEvent(EventStatus.FAILED, message, stats)
                if until(stats) and (last.total or self.on_missing != "wait"):
                    return WaitEvent(EventStatus.SETTLED, stats=stats)
            outage = changes.outage
        if outage is not None:
            why = outage.message
        else:
            why = describe_queue(last) if last else "The server said nothing about it."
        message = f"Queue {self.queue_name} is not at {self.until}. {why}"
        return WaitEvent(EventStatus.TIMEOUT, message)


def _task_state(task_instance: Any, log: Any) -> str | None:
    """Return the task's state now, "" if it is cleared; None if that cannot be found out."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    if task_instance is None:
        return None
    try:
        states = RuntimeTaskInstance.get_task_states(
            dag_id=task_instance.dag_id,
            task_ids=[task_instance.task_id],
            run_ids=[task_instance.run_id],
            map_index=task_instance.map_index,
        )
    except Exception as error:  # noqa: BLE001 - whatever Airflow raises, the jobs come first
        log.warning("The task's state cannot be found out: %s", error)
        return None
    state = next(iter(states.get(task_instance.run_id, {}).values()), "removed")
    return str(getattr(state, "value", state) or "")
