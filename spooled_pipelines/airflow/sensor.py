"""StreamJobsSensor: passes when a batch's jobs are done."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator, PokeReturnValue, XComArg
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from spooled_pipelines.airflow.data import describe
from spooled_pipelines.airflow.hook import DEFAULT_CONNECTION, SpooledHook
from spooled_pipelines.airflow.outcome import HOPELESS, Progress, standing, stats_dict
from spooled_pipelines.airflow.triggers import BatchTrigger
from spooled_pipelines.batch.verdict import breached, check_max_failed, failed_error
from spooled_pipelines.errors import (
    DeadlineExceededError,
    RateLimitError,
    SpooledError,
    UnavailableError,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from spooled_pipelines.rpc.values import BatchStats

# Airflow's own watch over deferred tasks looks every 15 s and gives no cause: it is there only
# for a triggerer that does not run at all.
BACKSTOP_SECONDS = 60.0
_AWAY = (UnavailableError, DeadlineExceededError, RateLimitError)


class StreamJobsSensor(BaseSensorOperator):
    """Waits until every job of a batch is settled, by the server's statistics of the batch.

    Deferred, so that it holds no worker slot; it goes on waiting while the server is away. It
    returns the statistics (a small dict).

    Args:
        batch: what `EnqueueBatchOperator` returns (``enqueue.output``), or a batch's id
            (templated).
        max_failed: how many jobs may end as dead letters or cancelled: a count, or a fraction of
            all jobs between 0 and 1. More fail the task, as soon as that is certain.
        deferrable: False checks every ``poke_interval`` seconds instead, in either ``mode``.
        spooled_conn_id: the Airflow connection, of type ``spooled``.

    ``timeout`` and ``execution_timeout`` hold while it is deferred, too; ``soft_fail`` turns
    each of its failures into a skip.

    Raises:
        AirflowFailException: too many jobs failed (the message names the most frequent errors),
            or there is no such batch. Not tried again.
        AirflowSensorTimeout, AirflowTaskTimeout: time is up; the message names what holds the
            batch back.
        SpooledError: the server does not take the key.
    """

    template_fields: Sequence[str] = ("batch", "spooled_conn_id")
    ui_color = "#dcfce7"

    def __init__(
        self,
        *,
        batch: Mapping[str, Any] | str | XComArg,
        max_failed: float = 0,
        deferrable: bool = True,
        spooled_conn_id: str = DEFAULT_CONNECTION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_max_failed(max_failed)
        self.batch = batch
        self.max_failed = max_failed
        self.deferrable = deferrable
        self.spooled_conn_id = spooled_conn_id
        self._progress: Progress | None = None
        self._standing = ""

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the statistics if the batch is done; else wait, deferred or poking."""
        if not self.deferrable:
            return self._poke_until_done(context)
        try:
            found = self.poke(context)
        except AirflowFailException as error:
            self._fail(error)
        if found.xcom_value is not None:
            return dict(found.xcom_value)
        seconds = self._seconds_given()
        raise TaskDeferred(
            trigger=BatchTrigger(
                batch=self._batch(),
                spooled_conn_id=self.spooled_conn_id,
                max_failed=self.max_failed,
                deadline=time.time() + seconds,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=seconds + BACKSTOP_SECONDS),
        )

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on where the trigger ended: return the statistics, or fail with what is wrong."""
        status, message = event["status"], event.get("message", "")
        if status == "settled":
            stats: dict[str, Any] = event["stats"]
            return stats
        if status == "timeout":
            self._time_is_up(message)
        if status == "failed":
            # An event is kept short; the server knows all of the most frequent errors.
            self.poke(context)
        if status in ("failed", "hopeless"):
            raise AirflowFailException(message)
        raise SpooledError(message)

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 - Airflow's signature
        """Look once: the statistics if the batch is done.

        Raises:
            AirflowFailException: it has failed, or there is no such batch.
            SpooledError: the server does not take the key.
        """
        try:
            with SpooledHook(self.spooled_conn_id).get_conn() as client:
                stats = client.batch(self._batch()).stats()
        except HOPELESS as error:
            raise AirflowFailException(error.message) from error
        except _AWAY as error:
            self._standing = error.message
            self.log.warning("Going on to wait: %s", error.message)
            return PokeReturnValue(is_done=False)
        if breached(stats, self.max_failed):
            raise AirflowFailException(failed_error(stats, self.max_failed).message)
        self._note(stats)
        if not stats.settled:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=stats_dict(stats))

    def _poke_until_done(self, context: Context) -> dict[str, Any]:
        try:
            stats: dict[str, Any] = super().execute(context)
        except AirflowSensorTimeout as error:
            raise AirflowSensorTimeout(f"{error} {self._standing}") from error
        except AirflowTaskTimeout as error:
            raise AirflowTaskTimeout(f"{error} {self._standing}") from error
        except AirflowSkipException as error:
            raise AirflowSkipException(f"{error} {self._standing}") from error
        return stats

    def _note(self, stats: BatchStats) -> None:
        self._standing = standing(stats)
        if self._progress is None:
            self._progress = Progress(self.log.info)
        self._progress(stats)

    def _batch(self) -> dict[str, Any]:
        """What the batch is known by; an id alone will do."""
        if isinstance(self.batch, str):
            return {"batch_id": self.batch}
        if isinstance(self.batch, Mapping) and "batch_id" in self.batch:
            return dict(self.batch)
        raise AirflowFailException(
            f"batch is {describe(self.batch)}, and must be what EnqueueBatchOperator returns "
            "(batch=enqueue.output) or a batch's id. Did the task that enqueues run?"
        )

    def _seconds_given(self) -> float:
        if self.execution_timeout is None:
            return self.timeout
        return min(self.timeout, self.execution_timeout.total_seconds())

    def _time_is_up(self, message: str) -> NoReturn:
        given = self._seconds_given()
        if given < self.timeout:
            error = AirflowTaskTimeout(f"execution_timeout of {given:g} s is up. {message}")
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(error)) from error
            raise error
        raise AirflowSensorTimeout(f"timeout of {given:g} s is up. {message}")

    def _fail(self, error: AirflowFailException) -> NoReturn:
        # What Airflow does for its own sensors where they poke or resume, but not before.
        if self.soft_fail or self.never_fail:
            raise AirflowSkipException(str(error)) from error
        raise error
