"""Cancelling a task's jobs in its own process, when Airflow ends that process.

Nobody wants the jobs of a task that was marked failed or success, so those that have not started
are cancelled. A task that is cleared is ended as well; its next run puts them back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from logging import Logger
from typing import TYPE_CHECKING, Any

from spooled_pipelines.airflow.handover.batch_refs import BatchRef
from spooled_pipelines.airflow.platform.versions import AirflowException
from spooled_pipelines.errors import NotFoundError, SpooledError
from spooled_pipelines.orchestration.run_batches import run_batch_id

if TYPE_CHECKING:
    from spooled_pipelines.client.sync.client import SpooledClient
    from spooled_pipelines.rpc.settings import ConnectionSettings

CANCELLED = "The task was killed. Batch %s: %d jobs cancelled, %d running, %d done"
NOT_CANCELLED = "The jobs could not be cancelled: %s"
# Airflow gives a process five seconds between being told to end and being killed.
_KILL_SECONDS = 4.0
_SETTLE_SECONDS = 0.3


class EnqueueGuard:
    """Stands by while a task enqueues a batch or waits for it, in case its process has to end.

    Attributes:
        generation: the batch's; None until it is known.
    """

    def __init__(self, client: SpooledClient, queue_name: str, name: str, log: Any) -> None:
        self.generation: int | None = None
        self._client = client
        self._queue_name = queue_name
        self._name = name
        self._log = log
        self._killed = False

    def kill(self, *, cancels: bool) -> None:
        """Break off, and cancel what has not started; return in time for Airflow."""
        self._killed = True
        run_with_timeout(lambda: self._kill(cancels))

    def raise_if_killed(self) -> None:
        """Raise AirflowException if the task was told to end, so that nothing follows."""
        if self._killed:
            raise AirflowException("The task was told to end, so its enqueue was broken off.")

    def _kill(self, cancels: bool) -> None:
        batch = run_batch_id(self._client, self._queue_name, self._name)
        self._client.close()
        if cancels:
            # Rows that were in flight when the upload broke off are stored by then.
            time.sleep(_SETTLE_SECONDS)
            cancel_batches(
                self._client.settings, [BatchRef(batch, generation=self.generation)], self._log
            )


def run_with_timeout(action: Callable[[], None]) -> None:
    """Run the action, and return when it is done or the time that Airflow gives is up."""
    # A signal comes in the middle of anything, also of a call that holds a lock of gRPC's.
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(_KILL_SECONDS)


def cancel_batches(
    settings: ConnectionSettings, batches: Sequence[BatchRef], log: Logger | Any
) -> None:
    """Cancel what of these batches has not started, and log it."""
    from spooled_pipelines.client.sync.client import SpooledClient

    with SpooledClient(settings) as client:
        for batch in batches:
            try:
                # A large batch takes longer than the time left: the server continues by itself.
                done = client.batch(batch.to_dict()).cancel()
            except NotFoundError:
                # Nothing was sent yet.
                continue
            except SpooledError as error:
                log.warning(NOT_CANCELLED, error.message)
                return
            log.info(CANCELLED, batch.batch_id, done.cancelled, done.running, done.done)
