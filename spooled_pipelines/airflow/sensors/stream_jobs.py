"""StreamJobsSensor: passes when a batch's jobs are done, or a queue is where it should be."""

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

from spooled_pipelines.airflow.batch_refs import batches_of
from spooled_pipelines.airflow.events import HOPELESS, Steps
from spooled_pipelines.airflow.hooks.spooled import DEFAULT_CONNECTION, SpooledHook
from spooled_pipelines.airflow.links import BatchLink, QueueLink
from spooled_pipelines.airflow.on_kill import cancel_all, in_time
from spooled_pipelines.airflow.operators.data_source import describe
from spooled_pipelines.airflow.sensors.queue_condition import check_conditions
from spooled_pipelines.airflow.sensors.wait_targets import BatchWait, QueueWait, Wait
from spooled_pipelines.batch.outcome.verdict import check_max_failed
from spooled_pipelines.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    RateLimitError,
    SpooledError,
    UnavailableError,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from spooled_pipelines.rpc.settings import ConnectionSettings

# Airflow's own watch over deferred tasks looks every 15 s and gives no cause: it is there only
# for a triggerer that does not run at all.
BACKSTOP_SECONDS = 60.0
AWAY = (UnavailableError, DeadlineExceededError, RateLimitError)
_IDLE = "open == 0"


class StreamJobsSensor(BaseSensorOperator):
    """Waits until every job of a batch is settled, or until a queue's statistics are as asked.

    Deferred, so that it holds no worker slot; it goes on waiting while the server is away. It
    returns the statistics (a small dict).

    Args:
        batch: what `EnqueueBatchOperator` returns (``enqueue.output``), a batch's id (templated),
            or a list of either, as a mapped task's output is: the batches are judged together, and
            the statistics are their sums.
        queue_name: instead of ``batch``, a queue (templated).
        until: what to wait for on the queue (templated): comparisons of ``pending``, ``scheduled``,
            ``processing``, ``completed``, ``failed``, ``deadletter``, ``total`` or ``open`` (what
            is not settled) with a number, joined by ``and``, such as ``"pending == 0 and completed
            >= 100"``.
        fail_if: what fails the task at once (templated), such as ``"deadletter > 10"``.
        max_failed: how many jobs of the batches may end as dead letters or cancelled: a count, or a
            fraction of all jobs between 0 and 1. More fail the task, as soon as that is certain.
        deferrable: False checks every ``poke_interval`` seconds instead, in either ``mode``.
        cancel_on_kill: whether marking the task failed or success cancels what of the batches has
            not started. By default it does not: the jobs are those of the task that enqueued them.
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

    template_fields: Sequence[str] = ("batch", "queue_name", "until", "fail_if", "spooled_conn_id")
    operator_extra_links = (BatchLink(), QueueLink())
    ui_color = "#dcfce7"

    def __init__(
        self,
        *,
        batch: Mapping[str, Any] | str | Sequence[Any] | XComArg | None = None,
        queue_name: str | XComArg | None = None,
        until: str = _IDLE,
        fail_if: str | None = None,
        max_failed: float = 0,
        deferrable: bool = True,
        cancel_on_kill: bool = False,
        spooled_conn_id: str = DEFAULT_CONNECTION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_max_failed(max_failed)
        self.batch = batch
        self.queue_name = queue_name
        self.until = until
        self.fail_if = fail_if
        self.max_failed = max_failed
        self.deferrable = deferrable
        self.cancel_on_kill = cancel_on_kill
        self.spooled_conn_id = spooled_conn_id
        self._check()
        self._steps: Steps | None = None
        self._settings: ConnectionSettings | None = None
        self._standing = ""

    def _check(self) -> None:
        """What can be known to be wrong when the DAG is read."""
        if (self.batch is None) == (self.queue_name is None):
            raise InvalidArgumentError(
                "StreamJobsSensor waits for batch= or for queue_name=: give one of them"
            )
        if self.queue_name is None and (self.until != _IDLE or self.fail_if is not None):
            raise InvalidArgumentError(
                "until= and fail_if= are about a queue: give queue_name=, or say max_failed= of a "
                "batch"
            )
        if self.queue_name is not None and self.max_failed:
            raise InvalidArgumentError(
                f'max_failed={self.max_failed} is about a batch: say fail_if="deadletter > '
                f'{self.max_failed}" for a queue'
            )
        for argument in ("until", "fail_if"):
            text = getattr(self, argument)
            if text is not None and "{{" not in text:
                check_conditions(text, argument)

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the statistics if it is done; else wait, deferred or poking."""
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
            trigger=self._wait().trigger(
                self.spooled_conn_id, time.time() + seconds, self.cancel_on_kill
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
        """Look once: the statistics if it is done.

        Raises:
            AirflowFailException: it has failed, or there is no such batch.
            SpooledError: the server does not take the key.
        """
        wait = self._wait()
        try:
            with SpooledHook(self.spooled_conn_id).get_conn() as client:
                self._settings = client.settings
                look = wait.look(client)
        except HOPELESS as error:
            raise AirflowFailException(error.message) from error
        except AWAY as error:
            self._standing = error.message
            self.log.warning("Going on to wait: %s", error.message)
            return PokeReturnValue(is_done=False)
        self._standing = look.standing
        if self._steps is None:
            self._steps = Steps(self.log.info)
        self._steps(look.step, look.standing)
        return PokeReturnValue(is_done=look.done, xcom_value=look.stats if look.done else None)

    def on_kill(self) -> None:
        """Cancel what of the batches has not started, where that is asked for."""
        settings, batches = self._settings, self.batch
        if self.cancel_on_kill and settings is not None and batches is not None:
            found = batches_of(batches, describe(batches))
            in_time(lambda: cancel_all(settings, found, self.log))

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

    def _wait(self) -> Wait:
        """What it waits for, now that the fields are rendered."""
        try:
            if self.queue_name is not None:
                for argument in ("until", "fail_if"):
                    text = getattr(self, argument)
                    if text is not None:
                        check_conditions(text, argument)
                return QueueWait(str(self.queue_name), self.until, self.fail_if)
            return BatchWait(batches_of(self.batch, describe(self.batch)), self.max_failed)
        except InvalidArgumentError as error:
            raise AirflowFailException(error.message) from error

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
