"""StreamJobsSensor: passes when a batch's jobs are done, or a queue is where it should be."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, get_args

from airflow.sdk import BaseSensorOperator, PokeReturnValue, XComArg

from spooled_pipelines.airflow.arguments import queue_condition
from spooled_pipelines.airflow.arguments.on_empty import OnEmpty, check_on_empty, report_empty
from spooled_pipelines.airflow.arguments.opaque import describe
from spooled_pipelines.airflow.arguments.queue_condition import OnMissing
from spooled_pipelines.airflow.arguments.templates import (
    TextTemplates,
    check_flag,
    is_template,
    parse_flag,
    parse_number,
    parse_text,
    refuse_templates,
)
from spooled_pipelines.airflow.handover.batch_refs import clear_advice, parse_batch_refs
from spooled_pipelines.airflow.handover.events import NON_RETRYABLE, OUTAGES, EventStatus, WaitEvent
from spooled_pipelines.airflow.hooks import DEFAULT_CONNECTION, WithHook, server_of
from spooled_pipelines.airflow.links import BatchLink, QueueLink
from spooled_pipelines.airflow.on_kill import cancel_batches, run_with_timeout
from spooled_pipelines.airflow.platform.config import default_deferrable
from spooled_pipelines.airflow.platform.versions import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
)
from spooled_pipelines.batch.outcome.verdict import check_max_failed
from spooled_pipelines.errors import InvalidArgumentError, SpooledError
from spooled_pipelines.orchestration.progress_log import ProgressLogger
from spooled_pipelines.rpc import validation

if TYPE_CHECKING:
    from airflow.sdk import Context

    from spooled_pipelines.airflow.handover.batch_look import PokeResult
    from spooled_pipelines.airflow.sensors.wait_targets import WaitTarget
    from spooled_pipelines.rpc.settings import ConnectionSettings

_IDLE = "open == 0"


class StreamJobsSensor(WithHook, TextTemplates, BaseSensorOperator):
    """Waits for jobs, and never claims any: until a batch is settled, or a queue is as asked.

    It keeps waiting while the server is away, and returns the statistics (a small dict).
    Templated are ``batch``, ``queue_name``, ``until``, ``fail_if``, ``on_missing``,
    ``max_failed`` and ``on_empty``.

    Args:
        batch: what `EnqueueBatchOperator` returns (``enqueue.output``), a batch's id,
            or a list of either, as a mapped task's output is: the batches are judged together, and
            the statistics are their sums.
        queue_name: instead of ``batch``, a queue.
        until: what to wait for on the queue: comparisons of ``pending``, ``scheduled``,
            ``processing``, ``completed``, ``failed``, ``deadletter``, ``total`` or ``open`` (jobs
            that are not settled) with a number, joined by ``and``, such as ``"pending == 0 and
            completed >= 100"``.
        fail_if: what fails the task at once, such as ``"deadletter > 10"``.
        on_missing: what a queue means of which the server knows no job, perhaps because its name is
            wrong: ``"wait"``, ``"success"`` (only if ``until`` holds) or ``"fail"``.
        max_failed: how many jobs of the batches may end as dead letters or cancelled: a count, or a
            fraction of all jobs between 0 and 1. More fail the task, as soon as that is certain.
        allow_expired: whether jobs that did not start in time (``ttl``) do not count as failed.
        on_empty: what it means that there is no batch, because the tasks that enqueue were skipped
            or mapped over nothing: ``"success"``, ``"skip"`` or ``"fail"``. (By Airflow's default
            trigger rule the sensor is skipped then; this is for ``all_done`` and its like.)
        deferrable: True waits in the triggerer, which has to run, and holds no worker slot; False
            checks every ``poke_interval`` seconds, in either ``mode``. None: as Airflow's
            ``[operators] default_deferrable`` says.
        cancel_on_kill: whether marking the task failed or success cancels the batches' jobs that
            have not started. By default it does not: the jobs belong to the task that enqueued
            them.
        spooled_conn_id: the Airflow connection, of type ``spooled``.

    ``timeout`` and ``execution_timeout`` hold while it is deferred, too; ``soft_fail`` turns
    each of its failures into a skip.

    Raises:
        AirflowFailException: too many jobs failed (the message names the most frequent errors),
            or there is no such batch. Not tried again.
        AirflowSensorTimeout, AirflowTaskTimeout: time is up; the message names what holds the
            batch back.
        SpooledError: the server does not accept the key.
    """

    template_fields: Sequence[str] = (
        *("batch", "queue_name", "until", "fail_if", "on_missing", "max_failed", "allow_expired"),
        *("on_empty", "spooled_conn_id"),
    )
    text_fields: ClassVar[tuple[str, ...]] = ("queue_name", "until", "fail_if", "spooled_conn_id")
    untemplated_fields: ClassVar[tuple[str, ...]] = ("deferrable", "cancel_on_kill")
    operator_extra_links = (BatchLink(), QueueLink())
    ui_color = "#dcfce7"

    def __init__(
        self,
        *,
        batch: Mapping[str, Any] | str | Sequence[Any] | XComArg | None = None,
        queue_name: str | XComArg | None = None,
        until: str = _IDLE,
        fail_if: str | None = None,
        on_missing: OnMissing | str = "wait",
        max_failed: float | str = 0,
        allow_expired: bool | str = False,
        on_empty: OnEmpty | str = "success",
        deferrable: bool | None = None,
        cancel_on_kill: bool = False,
        spooled_conn_id: str = DEFAULT_CONNECTION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        refuse_templates(type(self), {"deferrable": deferrable, "cancel_on_kill": cancel_on_kill})
        self.batch = batch
        self.queue_name = queue_name
        self.until = until
        self.fail_if = fail_if
        self.on_missing: Any = on_missing
        # A text until it is rendered.
        self.max_failed: Any = max_failed
        self.allow_expired: Any = allow_expired
        self.on_empty = on_empty
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.cancel_on_kill = cancel_on_kill
        self.spooled_conn_id = spooled_conn_id
        # For the links.
        self.shown_batch: list[dict[str, Any]] = []
        self._waits_for_queue = queue_name is not None
        self._check_arguments()
        self._progress: ProgressLogger | None = None
        self._settings: ConnectionSettings | None = None
        # What a look found, or why it found nothing.
        self._found: PokeResult | None = None
        self._outage: SpooledError | None = None
        # For the error when time is up.
        self._description = ""

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the statistics if the wait is over; else wait, deferred or poking."""
        if not self.deferrable:
            return self._poke_until_done(context)
        try:
            result = self._look()
        except AirflowFailException as error:
            self._fail(error)
        if result.xcom_value is not None:
            if self._description:
                self.log.info(self._description)
            return dict(result.xcom_value)
        deadline = time.time() + self._time_limit()
        trigger = self._target().trigger(self.spooled_conn_id, deadline, self.cancel_on_kill)
        raise trigger.deferral(self.log)

    def execute_complete(
        self,
        context: Context,  # noqa: ARG002 - Airflow's signature
        event: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Resume where the trigger ended: return the statistics, or fail with what is wrong."""
        ended = WaitEvent.from_payload(event)
        match ended.status:
            case EventStatus.SETTLED:
                stats = ended.stats or {}
                self.shown_batch = [stats] if "batch_id" in stats else []
                return stats
            case EventStatus.TIMEOUT:
                self._time_is_up(ended.message)
            case EventStatus.FAILED if self.batch is not None:
                advice = clear_advice(parse_batch_refs(self.batch, describe(self.batch)))
                raise AirflowFailException(f"{ended.message} {advice}")
            case EventStatus.FAILED | EventStatus.FATAL:
                raise AirflowFailException(ended.message)
        raise SpooledError(ended.message)

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 - Airflow's signature
        """Check once and return the statistics if the wait is over.

        Raises:
            AirflowFailException: it has failed, or there is no such batch.
            SpooledError: the server does not accept the key.
        """
        result = self._look()
        if self._progress is None:
            self._progress = ProgressLogger(self.log, server_of(self.spooled_conn_id))
        self._progress.outage(self._outage)
        if self._found is not None:
            self._progress.step(self._found.step, self._found.description)
        return result

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002
        """Return the queue, with the counts."""
        from spooled_pipelines.airflow.hooks.lineage import of_wait

        return of_wait(self)

    def on_kill(self) -> None:
        """Cancel the batches' jobs that have not started, where that is asked for."""
        settings = self._settings
        if self.cancel_on_kill and settings is not None and self.batch is not None:
            batches = parse_batch_refs(self.batch, describe(self.batch))
            run_with_timeout(lambda: cancel_batches(settings, batches, self.log))

    def _look(self) -> PokeReturnValue:
        """As `poke`, without a line in the log: a task that is deferred has the trigger's."""
        self._found = self._outage = None
        target = self._target()
        try:
            with self.hook.get_conn() as client:
                self._settings = client.settings
                self._found = found = target.poke(client)
        except NON_RETRYABLE as error:
            raise AirflowFailException(error.message) from None
        except OUTAGES as error:
            self._outage = error
            self._description = error.message
            return PokeReturnValue(is_done=False)
        self._description = found.description
        return PokeReturnValue(is_done=found.done, xcom_value=found.stats if found.done else None)

    def _check_arguments(self) -> None:
        """Refuse what can be known to be wrong when the DAG is read."""
        check_on_empty(self.on_empty)
        if not is_template(self.on_missing):
            validation.one_of(self.on_missing, "on_missing", get_args(OnMissing))
        if not is_template(self.max_failed):
            check_max_failed(self.max_failed)
        if not is_template(self.allow_expired):
            check_flag(self.allow_expired, "allow_expired")
        if (self.batch is None) == (self.queue_name is None):
            raise InvalidArgumentError(
                "StreamJobsSensor waits for batch= or for queue_name=: give one of them"
            )
        if self.queue_name is None and (self.until != _IDLE or self.fail_if is not None):
            raise InvalidArgumentError(
                "until= and fail_if= are about a queue: give queue_name=, or use max_failed= for a "
                "batch"
            )
        if self.queue_name is not None and self.max_failed:
            raise InvalidArgumentError(
                f'max_failed={self.max_failed} is about a batch: use fail_if="deadletter > '
                f'{self.max_failed}" for a queue'
            )
        for argument in ("until", "fail_if"):
            text = getattr(self, argument)
            if text is not None and not is_template(text):
                queue_condition.parse(text, argument)

    def _poke_until_done(self, context: Context) -> dict[str, Any]:
        try:
            stats: dict[str, Any] = super().execute(context)
        except AirflowSensorTimeout as error:
            raise AirflowSensorTimeout(f"{error} {self._description}") from None
        except AirflowTaskTimeout as error:
            raise AirflowTaskTimeout(f"{error} {self._description}") from None
        except AirflowSkipException as error:
            raise AirflowSkipException(f"{error} {self._description}") from None
        return stats

    def _target(self) -> WaitTarget:
        """Return what it waits for, now that the fields are rendered."""
        # Nothing that reads a DAG needs the triggers, which take longest to load.
        from spooled_pipelines.airflow.sensors.wait_targets import BatchTarget, QueueTarget

        try:
            if self.queue_name is not None:
                validation.one_of(self.on_missing, "on_missing", get_args(OnMissing))
                return QueueTarget(
                    parse_text(self.queue_name), self.until, self.fail_if, self.on_missing
                )
            max_failed = parse_number(self.max_failed)
            check_max_failed(max_failed)
            allow_expired = parse_flag(self.allow_expired)
            check_flag(allow_expired, "allow_expired")
            batches = parse_batch_refs(self.batch, describe(self.batch))
            if not batches:
                what = "queue" if self._waits_for_queue else "batch"
                message = f"There is no {what} to wait for: the tasks before gave none."
                if self.trigger_rule == "all_success":
                    # Had they been skipped, this one would have been skipped, too.
                    message += " They did succeed: does the one that enqueues push its XCom?"
                report_empty(self.on_empty, message, self.log)
            self.shown_batch = [batch.to_dict() for batch in batches]
            return BatchTarget(batches, max_failed, allow_expired)
        except InvalidArgumentError as error:
            raise AirflowFailException(error.message) from None

    def _time_limit(self) -> float:
        if self.execution_timeout is None:
            return self.timeout
        return min(self.timeout, self.execution_timeout.total_seconds())

    def _time_is_up(self, message: str) -> NoReturn:
        seconds = self._time_limit()
        if seconds < self.timeout:
            error = AirflowTaskTimeout(f"execution_timeout of {seconds:g} s is up. {message}")
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(error)) from None
            raise error
        raise AirflowSensorTimeout(f"timeout of {seconds:g} s is up. {message}")

    def _fail(self, error: AirflowFailException) -> NoReturn:
        # Airflow does this for a sensor that pokes or resumes, but not before it defers.
        if self.soft_fail or self.never_fail:
            raise AirflowSkipException(str(error)) from None
        raise error
