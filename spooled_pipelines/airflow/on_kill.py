"""What becomes of the jobs when somebody acts on the task that waits for them.

Marked failed or success, nobody wants them any more: what has not started is cancelled. Cleared,
the task runs again and goes on with its batch, so nothing is. A triggerer that ends or hands over
does not come here at all.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException

from spooled_pipelines.airflow.batch_refs import generation_of
from spooled_pipelines.airflow.triggers.connection_pool import shared
from spooled_pipelines.errors import NotFoundError, SpooledError

if TYPE_CHECKING:
    from spooled_pipelines.client.sync.client import SpooledClient
    from spooled_pipelines.rpc.settings import ConnectionSettings

CANCELLED = "The task was killed. Batch %s: %d jobs cancelled, %d running, %d done"
# Airflow gives a process five seconds between being told to end and being killed.
_KILL_SECONDS = 4.0
_SETTLE_SECONDS = 0.3
_ENDED = frozenset({"failed", "success", "skipped", "upstream_failed", "removed"})


async def cancel_after_kill(
    spooled_conn_id: str, batches: Sequence[Mapping[str, Any]], task_instance: Any, log: Any
) -> None:
    """Cancel what has not started, unless the task is to run again."""
    from spooled_pipelines.batch.aio.rpcs import cancel_batch

    state = await asyncio.to_thread(_state_of, task_instance, log)
    if state is not None and state not in _ENDED:
        log.info("The task is %s: its jobs stay, and it goes on with them", state or "cleared")
        return
    try:
        async with shared(spooled_conn_id) as connection:
            for batch in batches:
                generation = generation_of(batch)
                done = await cancel_batch(connection.client.calls, batch["batch_id"], generation)
                log.info(CANCELLED, batch["batch_id"], done.cancelled, done.running, done.done)
    except SpooledError as error:
        log.warning("The jobs could not be cancelled: %s", error.message)


def _state_of(task_instance: Any, log: Any) -> str | None:
    """The task's state now, "" where it is cleared; None where that cannot be found out."""
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
    found = list(states.get(task_instance.run_id, {}).values())
    if not found:
        return "removed"
    return str(getattr(found[0], "value", found[0]) or "")


class Running:
    """The batch that a task is enqueuing or waiting for, while its process may be told to end.

    Attributes:
        generation: the batch's, once that is known.
    """

    def __init__(self, client: SpooledClient, queue_name: str, name: str, log: Any) -> None:
        self.generation: int | None = None
        self._client = client
        self._queue_name = queue_name
        self._name = name
        self._log = log
        self._killed = False

    def kill(self, *, cancels: bool) -> None:
        """Break off, and cancel what has not started; returns in time for Airflow."""
        self._killed = True
        in_time(lambda: self._kill(cancels))

    def check(self) -> None:
        """AirflowException where the task was told to end: nothing may follow."""
        if self._killed:
            raise AirflowException("The task was told to end, so its enqueue was broken off.")

    def _kill(self, cancels: bool) -> None:
        from spooled_pipelines.batch.staging.key_scope import Scope, batch_id

        self._client.close()
        if cancels:
            # What was on its way when the upload broke off is stored by then.
            time.sleep(_SETTLE_SECONDS)
            made = batch_id(Scope(self._queue_name, self._name), 0, 0)
            batch = {"batch_id": made, "generation": self.generation}
            cancel_all(self._client.settings, [batch], self._log)


def in_time(action: Callable[[], None]) -> None:
    """Do it within the time that Airflow gives, or begin to."""
    # A signal comes in the middle of anything, also of a call that holds a lock of gRPC's.
    acting = threading.Thread(target=action, daemon=True)
    acting.start()
    acting.join(_KILL_SECONDS)


def cancel_all(
    settings: ConnectionSettings, batches: Sequence[Mapping[str, Any]], log: Any
) -> None:
    """Cancel what of these batches has not started, and say so."""
    from spooled_pipelines.batch.sync.rpcs import cancel_batch
    from spooled_pipelines.client.sync.client import SpooledClient

    with SpooledClient(settings) as client:
        for batch in batches:
            try:
                # A large batch takes longer than there is time: the server goes on by itself.
                done = cancel_batch(client.calls, batch["batch_id"], generation_of(batch))
            except NotFoundError:
                # Nothing was sent yet.
                continue
            except SpooledError as error:
                log.warning("The jobs could not be cancelled: %s", error.message)
                return
            log.info(CANCELLED, batch["batch_id"], done.cancelled, done.running, done.done)
