"""The wait of a task for the end of its batch: until when, and what a failure says."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from spooled_pipelines.airflow.handover.batch_refs import BatchRef
from spooled_pipelines.airflow.handover.events import batch_stats_dict
from spooled_pipelines.airflow.platform.versions import AirflowFailException, AirflowTaskTimeout
from spooled_pipelines.batch.outcome import verdict
from spooled_pipelines.errors import BatchFailedError, BatchTimeoutError
from spooled_pipelines.orchestration.progress_log import ProgressLogger

if TYPE_CHECKING:
    from spooled_pipelines.airflow.triggers import BatchTrigger
    from spooled_pipelines.client.sync.client import SpooledClient


@dataclass(frozen=True)
class CompletionWait:
    """How long a task waits for its batch, and which failures it allows.

    Attributes:
        wait_timeout, execution_timeout: as of the operator; the earlier end holds.
        rule: how many jobs may fail, and what happens then.
        retries: whether the task's next run puts dead letters back into the queue.
    """

    wait_timeout: timedelta | float
    execution_timeout: timedelta | None
    rule: verdict.Rule
    retries: bool

    def deadline(self, began: float) -> float:
        """Return when the wait of a task that `began` then ends, in seconds since the epoch."""
        deadline = time.time() + self._seconds()
        if self.execution_timeout is not None:
            deadline = min(deadline, began + self.execution_timeout.total_seconds())
        return deadline

    def here(
        self, client: SpooledClient, batch: Mapping[str, Any], deadline: float, log: Any
    ) -> dict[str, Any]:
        """Wait in this process, and return the statistics of the end.

        Raises:
            AirflowFailException: too many jobs failed.
            AirflowTaskTimeout: the batch was not settled in time.
        """
        seconds = max(deadline - time.time(), 0.0)
        try:
            stats = client.batch(dict(batch)).wait(
                timeout=seconds,
                max_failed=self.rule.max_failed,
                on_progress=ProgressLogger(log).batch,
                allow_expired=self.rule.allow_expired,
            )
        except BatchFailedError as error:
            self.raise_failed(client, batch, error.message)
        except BatchTimeoutError as error:
            self.raise_timeout(error.message.replace(f" within {seconds:g} s", "", 1))
        return batch_stats_dict(stats)

    def trigger(
        self, conn_id: str, batch: Mapping[str, Any], deadline: float, cancel_on_kill: bool
    ) -> BatchTrigger:
        """Return what waits in the triggerer."""
        # Nothing that reads a DAG needs it, and it takes longest to load.
        from spooled_pipelines.airflow.triggers import BatchTrigger

        arguments = (self.rule.max_failed, deadline, cancel_on_kill, self.rule.allow_expired)
        return BatchTrigger.waiting_for([BatchRef.parse(batch)], conn_id, *arguments)

    def raise_failed(
        self, client: SpooledClient, batch: Mapping[str, Any], message: str
    ) -> NoReturn:
        """Raise AirflowFailException, after the rule's ``on_breach``."""
        if self.rule.on_breach == "stop":
            done = client.batch(dict(batch)).cancel()
            message = f"{message} {done.cancelled} that had not started are cancelled."
        advice = "Mend the cause and clear this task: it puts the dead letters back into the queue."
        raise AirflowFailException(f"{message} {advice if self.retries else ''}")

    def raise_timeout(self, message: str) -> NoReturn:
        """Raise AirflowTaskTimeout, with the limit that ended the wait in the words of the DAG."""
        seconds, whole = self._seconds(), self.execution_timeout
        limit = f"wait_timeout of {seconds:g} s"
        if whole is not None and whole.total_seconds() < seconds:
            limit = f"execution_timeout of {whole.total_seconds():g} s"
        raise AirflowTaskTimeout(f"{limit} is up. {message}") from None

    def _seconds(self) -> float:
        waited = self.wait_timeout
        return waited.total_seconds() if isinstance(waited, timedelta) else float(waited)
