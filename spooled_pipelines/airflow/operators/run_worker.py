"""SpooledWorkOperator: a task that works on the jobs itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.sdk import BaseOperator, XComArg

from spooled_pipelines.airflow.arguments.on_empty import OnEmpty, check_on_empty, report_empty
from spooled_pipelines.airflow.arguments.opaque import describe
from spooled_pipelines.airflow.arguments.templates import (
    TextTemplates,
    check_flag,
    is_template,
    parse_duration,
    parse_flag,
    parse_number,
    parse_text,
    refuse_templates,
)
from spooled_pipelines.airflow.handover.batch_look import look_at_batches, seal_parts
from spooled_pipelines.airflow.handover.batch_refs import BatchRef, parse_batch_refs
from spooled_pipelines.airflow.handover.events import NON_RETRYABLE
from spooled_pipelines.airflow.hooks import DEFAULT_CONNECTION, WithHook
from spooled_pipelines.airflow.platform.versions import AirflowException, AirflowFailException
from spooled_pipelines.batch.outcome.verdict import check_max_failed
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.orchestration.progress_log import ProgressLogger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from spooled_pipelines.client.sync.client import SpooledClient
    from spooled_pipelines.worker import Worker

_LOOK_SECONDS = 1.0
# What Airflow calls the module that it makes of a DAG's file.
_MODULES_OF_DAGS = "unusual_prefix_"


class SpooledWorkOperator(WithHook, TextTemplates, BaseOperator):
    """Runs a worker inside the task until a batch is settled, or a queue is empty.

    With it, a DAG needs no other workers. It holds a worker slot of Airflow's for as long as it
    works, so its time is bounded.

    Args:
        handler: a function, sync or async, of a job, its payload or rows, as of
            `spooled_pipelines.worker.Worker`. With ``executor="process"`` it has to be in a module
            beside the DAG's file, which no other process can import.
        batch: what `EnqueueBatchOperator` returns (``enqueue.output``), a batch's id, or a list of
            either, as a mapped task's output is: works on their queues until the last of their jobs
            is settled, retries included. Parts of a batch are sealed first, as by a sensor.
        queue_name: without a batch, the queue: works until no job of it is due.
        max_failed: with batches, how many of their jobs may fail: a count, or a fraction of all.
        allow_expired: whether jobs that did not start in time (``ttl``) do not count as failed.
        max_time: how long it works at most; jobs that are not finished by then are given back.
        concurrency, executor, lease_seconds, retry_on, discard_on: as of `Worker`.
        on_empty: what it means that there is no batch, because the tasks that enqueue were skipped
            or mapped over nothing: ``"success"`` (nothing to do), ``"skip"`` or ``"fail"``.
        spooled_conn_id: the Airflow connection, of type ``spooled``.

    All of them are templated, except ``handler``, ``executor``, ``retry_on`` and ``discard_on``.

    It returns the batch's statistics, or how many jobs of the queue completed, are to be retried,
    and are dead.

    Raises:
        AirflowFailException: too many jobs failed (the message names the most frequent errors), or
            an argument is wrong. Not tried again.
        AirflowException: `max_time` is up; a retry continues where this try ended.
        SpooledError: the server cannot be reached or does not accept the key.
    """

    template_fields: Sequence[str] = (
        *("batch", "queue_name", "max_failed", "max_time", "concurrency", "lease_seconds"),
        *("allow_expired", "on_empty", "spooled_conn_id"),
    )
    untemplated_fields: ClassVar[tuple[str, ...]] = ("executor",)
    ui_color = "#fef9c3"

    def __init__(
        self,
        *,
        handler: Callable[..., Any],
        batch: Mapping[str, Any] | str | Sequence[Any] | XComArg | None = None,
        queue_name: str | None = None,
        max_failed: float | str = 0,
        allow_expired: bool | str = False,
        max_time: timedelta | str = timedelta(hours=1),
        concurrency: int | str = 8,
        executor: Literal["thread", "process"] = "thread",
        lease_seconds: int | str = 30,
        retry_on: Sequence[type[BaseException]] | None = None,
        discard_on: Sequence[type[BaseException]] = (),
        on_empty: OnEmpty | str = "success",
        spooled_conn_id: str = DEFAULT_CONNECTION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        refuse_templates(type(self), {"executor": executor})
        if executor == "process" and str(handler.__module__).startswith(_MODULES_OF_DAGS):
            raise InvalidArgumentError(
                'executor="process" needs a handler that another process can import: move '
                f"{handler.__qualname__} from the DAG's file into a module beside it"
            )
        if (batch is None) == (queue_name is None):
            raise InvalidArgumentError(
                "SpooledWorkOperator works on batch= or on queue_name=: give one of them"
            )
        self.handler = handler
        self.batch = batch
        self.queue_name = queue_name
        # Texts until they are rendered.
        self.max_failed: Any = max_failed
        self.allow_expired: Any = allow_expired
        self.max_time: Any = max_time
        self.concurrency: Any = concurrency
        self.lease_seconds: Any = lease_seconds
        self.options: dict[str, Any] = {
            "executor": executor,
            "retry_on": retry_on,
            "discard_on": discard_on,
        }
        self.on_empty = on_empty
        self.spooled_conn_id = spooled_conn_id
        check_on_empty(on_empty)
        if not is_template(max_failed):
            check_max_failed(parse_number(max_failed))
        if not is_template(allow_expired):
            check_flag(allow_expired, "allow_expired")
        self._worker: Worker | None = None

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002 - Airflow's signature
        """Work until the batch is settled or the queue is empty, and return the counts."""
        try:
            self._parse_rendered()
            with self.hook.get_conn() as client:
                if self.queue_name is not None:
                    return self._drain(client, parse_text(self.queue_name))
                batches = parse_batch_refs(self.batch, describe(self.batch))
                if not batches:
                    report_empty(
                        self.on_empty, "There is no batch: the tasks before gave none.", self.log
                    )
                    return {}
                return self._settle(client, batches)
        except NON_RETRYABLE as error:
            raise AirflowFailException(error.message) from None

    def on_kill(self) -> None:
        """Give back the jobs that run."""
        if self._worker is not None:
            self._worker.abort()

    def _parse_rendered(self) -> None:
        for name in ("max_failed", "concurrency", "lease_seconds"):
            setattr(self, name, parse_number(getattr(self, name)))
        check_max_failed(self.max_failed)
        self.allow_expired = parse_flag(self.allow_expired)
        check_flag(self.allow_expired, "allow_expired")
        self.max_time = parse_duration(self.max_time)
        if not isinstance(self.max_time, timedelta):
            raise InvalidArgumentError(
                f"max_time must be a timedelta or a number of seconds, got {self.max_time!r}"
            )

    def _settle(self, client: SpooledClient, batches: Sequence[BatchRef]) -> dict[str, Any]:
        rule = (self.max_failed, self.allow_expired)
        seal_parts(client, batches)
        found = look_at_batches(client, batches, *rule)
        of = (ref.queue_name or client.batch(ref.batch_id).stats().queue_name for ref in batches)
        queues = list(dict.fromkeys(of))
        progress = ProgressLogger(self.log)
        with self._working(client, queues):
            deadline = self._deadline()
            while not found.done:
                if time.monotonic() > deadline:
                    raise self._time_is_up(found.description)
                if not self._is_working():
                    raise AirflowException("The task was told to end, so it works no longer.")
                found = look_at_batches(client, batches, *rule)
                progress.step(found.step, found.description)
        return found.stats

    def _drain(self, client: SpooledClient, queue_name: str) -> dict[str, Any]:
        with self._working(client, queue_name, stop_when_empty=True) as worker:
            deadline = self._deadline()
            while self._is_working():
                if time.monotonic() > deadline:
                    raise self._time_is_up(f"{worker.report.settled} jobs of {queue_name} done.")
            report = worker.join()
        done = {
            "completed": report.completed,
            "retrying": report.retrying,
            "deadletter": report.deadletter,
        }
        self.log.info("Queue %s is empty: %s", queue_name, done)
        return done

    def _working(self, client: SpooledClient, queues: str | list[str], **options: Any) -> Worker:
        # Slow to import, and not needed to parse a DAG.
        from spooled_pipelines.worker import Worker

        if self.options["executor"] == "process":
            # What a process imports first is Airflow, which would look for its database.
            os.environ["_AIRFLOW__AS_LIBRARY"] = "1"
        options |= {"concurrency": self.concurrency, "lease_seconds": self.lease_seconds}
        self._worker = Worker(client, queues, self.handler, **self.options, **options)
        return self._worker

    def _deadline(self) -> float:
        """Return when to stop: counted from here, where it is ready to work."""
        return float(time.monotonic() + self.max_time.total_seconds())

    def _is_working(self) -> bool:
        """Wait a moment, and return whether the worker still works; raise what ended it."""
        if self._worker is None:
            return False
        try:
            self._worker.join(timeout=_LOOK_SECONDS)
        except TimeoutError:
            return True
        return False

    def _time_is_up(self, message: str) -> AirflowException:
        seconds = self.max_time.total_seconds()
        return AirflowException(f"max_time of {seconds:g} s is up. {message}")
