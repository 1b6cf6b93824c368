"""EnqueueBatchOperator: each row of a table becomes a job."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow.sdk import Asset, BaseOperator, XComArg
from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout, TaskDeferred

from spooled_pipelines.airflow import config
from spooled_pipelines.airflow.batch_refs import batches_of
from spooled_pipelines.airflow.events import Progress, stats_dict
from spooled_pipelines.airflow.hooks.spooled import DEFAULT_CONNECTION, SpooledHook
from spooled_pipelines.airflow.links import BatchLink, QueueLink
from spooled_pipelines.airflow.operators.data_source import HeldArguments, hold, hold_function
from spooled_pipelines.airflow.operators.options import check_options
from spooled_pipelines.airflow.operators.scope import batch_name
from spooled_pipelines.airflow.sensors.wait_targets import BatchWait
from spooled_pipelines.errors import (
    BatchFailedError,
    BatchTimeoutError,
    InvalidArgumentError,
    SourceError,
    SpooledError,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from spooled_pipelines.airflow.on_kill import Running
    from spooled_pipelines.batch.encoding.column_mapping import PayloadOption, TagsOption
    from spooled_pipelines.batch.encoding.values import OnLossy
    from spooled_pipelines.client.sync.client import SpooledClient

# As a sensor's.
_WAIT_SECONDS = timedelta(days=7).total_seconds()
# Airflow's own watch over deferred tasks is there for a triggerer that does not run at all.
_BACKSTOP_SECONDS = 60.0


class EnqueueBatchOperator(BaseOperator):
    """Enqueues the rows of a table as the jobs of one batch, and returns the batch.

    The batch belongs to the task instance: whatever runs it again (a retry, Clear, a backfill
    that reprocesses the run) finds the jobs that are there and sends what is missing. Rows are
    never rendered, logged, stored in XCom or shown in the UI.

    What it returns fits in a few hundred bytes, and is what `StreamJobsSensor` takes:
    ``batch=enqueue.output``.

    Args:
        data: another task's output (a DataFrame or a list of dicts), the path or URI of a
            Parquet, CSV, JSON or Arrow file, glob or folder (templated), an `Asset` (its URI is
            read, and it is an inlet), a callable, or whatever else `SpooledClient.enqueue_batch`
            takes. A callable gets those of ``op_kwargs`` and of the task's context that its
            signature names, and returns any of the others, or yields tables.
        queue_name: the queue's name (templated). Airflow's own ``queue`` is the executor's.
        sql, sql_conn_id: instead of ``data``, a query (templated; the path of a .sql file will do)
            and the connection, of any database that Airflow has a hook for, to run it on. Its
            rows are streamed.
        columns: read these columns alone.
        where: read the rows alone for which it is true, such as ``[("amount", ">", 5)]``.
        index: read a DataFrame's index as columns.
        key: the column, or columns, that identify a row: the same key is the same job. Without
            it, the row's whole content does.
        payload: what of a row goes to the worker: None (every column that has no other use), a
            list of columns, a mapping of payload field to column, the one column that holds
            objects, or a function over a record batch.
        payload_schema: a JSON Schema, or a pydantic model, that every payload has to fit.
        priority: -100 to 100, or the column that holds it.
        scheduled_at: a time with an offset, or the column that holds it: not before then.
        max_retries: 0 to 100, or the column that holds it.
        timeout_seconds: 1 to 86 400, or the column that holds it.
        tags: constants to put on each job (templated), a list of columns that each are a tag, or
            the column that holds them.
        spread, rate: rows fall due within this time, or so many a second, from ``scheduled_at`` or
            the task's start on.
        name: the batch's name (templated), if it shall not be made of dag_id, task_id, run_id
            and map_index. Task instances that give the same name fill the same batch.
        part: makes this task's rows a part of the batch, by this id (templated), such as
            ``"{{ ti.map_index }}"`` of a mapped task with a ``name=`` that all share. The batch is
            complete once a `StreamJobsSensor` that waits for all of them has sealed it.
        on_rejected: ``"raise"``: rows that cannot be jobs fail the task before anything is sent;
            ``"skip"``: they are left out and counted.
        on_lossy: ``"raise"``: a value that a payload cannot hold exactly fails the task before
            anything is sent; ``"string"``: it is sent as text; ``"null"``: it is left out; or
            one of these for each of some columns.
        on_empty: what a table without rows means: ``"success"`` (a batch without jobs, for which
            nobody waits), ``"skip"`` or ``"fail"``.
        on_rerun: what a retry, a Clear or a reprocessing backfill does with the batch that is
            there: ``"retry_failed"`` sends what is missing and puts the batch's dead letters, and
            what was cancelled, back into the queue; ``"resume"`` only sends what is missing;
            ``"fresh"`` makes every row a new job and cancels what had not started of the old ones
            (a try that was cut short is finished, not begun again). On a server without the batch
            extension, ``"retry_failed"`` can do no more than ``"resume"``, and ``"fresh"`` fails
            the task.
        wait_for_completion: stay until every job is settled, and return the counts as well.
        deferrable: wait in the triggerer, without a worker slot; False waits in the worker.
        wait_timeout: how long to wait at most, in seconds or as a timedelta; a week by default.
            ``execution_timeout`` holds, too, from the task's start on.
        max_failed: how many jobs may end as dead letters or cancelled: a count, or a fraction of
            all jobs between 0 and 1. More fail the task, as soon as that is certain.
        on_breach: what becomes of the other jobs then: ``"fail"`` leaves them alone, ``"stop"``
            cancels those that have not started.
        cancel_on_kill: whether the jobs that have not started are cancelled where the task is
            marked failed or success, or its process is told to end. None: as the configuration's
            ``[spooled] cancel_on_kill`` says. Run again, the task puts them back.
        ledger: where to write what became of each row, as Parquet (a path or URI; templated).
        results: where to write what became of each job, as Parquet (a path or URI; templated);
            needs ``wait_for_completion``.
        op_kwargs: arguments for a callable ``data`` (templated).
        spooled_conn_id: the Airflow connection, of type ``spooled``.

    The asset events of its ``outlets`` carry the batch's id, its queue and the counts.

    Raises:
        AirflowFailException: the data or an argument is not what it has to be, or too many jobs
            failed; trying again would not help, so retries are not used up.
        AirflowTaskTimeout: the batch was not settled in time; a retry goes on waiting for it.
        SpooledError: the server cannot be reached or does not take the key.
    """

    template_fields: Sequence[str] = (
        "data",
        "sql",
        "sql_conn_id",
        "op_kwargs",
        "queue_name",
        "key",
        "payload",
        "tags",
        "name",
        "part",
        "ledger",
        "results",
        "spooled_conn_id",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql"}  # noqa: RUF012 - as Airflow's own
    operator_extra_links = (BatchLink(), QueueLink())
    # Tables are not copied when Airflow copies a DAG.
    shallow_copy_attrs: Sequence[str] = ("_data", "_op_kwargs")
    ui_color = "#dbeafe"

    def __init__(
        self,
        *,
        queue_name: str,
        data: Any = None,
        sql: str | None = None,
        sql_conn_id: str | None = None,
        columns: Sequence[str] | None = None,
        where: Any = None,
        index: bool = False,
        key: str | Sequence[str] | None = None,
        payload: PayloadOption = None,
        payload_schema: Any = None,
        priority: int | str | None = None,
        scheduled_at: datetime | str | None = None,
        max_retries: int | str | None = None,
        timeout_seconds: int | str | None = None,
        tags: TagsOption = None,
        spread: timedelta | None = None,
        rate: float | None = None,
        name: str | None = None,
        part: str | int | None = None,
        on_rejected: Literal["raise", "skip"] = "raise",
        on_lossy: OnLossy = "raise",
        on_empty: Literal["success", "skip", "fail"] = "success",
        on_rerun: Literal["resume", "retry_failed", "fresh"] = "retry_failed",
        wait_for_completion: bool = False,
        deferrable: bool = True,
        wait_timeout: timedelta | float = _WAIT_SECONDS,
        max_failed: float = 0,
        on_breach: Literal["fail", "stop"] = "fail",
        cancel_on_kill: bool | None = None,
        ledger: Any = None,
        results: Any = None,
        op_kwargs: Mapping[str, Any] | None = None,
        spooled_conn_id: str = DEFAULT_CONNECTION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(data, Asset):
            self.inlets = [*self.inlets, data]
        self.data = data
        self.sql = sql
        self.sql_conn_id = sql_conn_id
        self.op_kwargs = op_kwargs
        self.queue_name = queue_name
        self.columns = columns
        self.where = where
        self.index = index
        self.key = key
        self.payload = payload
        self.payload_schema = payload_schema
        self.priority = priority
        self.scheduled_at = scheduled_at
        self.max_retries = max_retries
        self.timeout_seconds = timeout_seconds
        self.tags = tags
        self.spread = spread
        self.rate = rate
        self.name = name
        self.part = part
        self.on_rejected = on_rejected
        self.on_lossy = on_lossy
        self.on_empty = on_empty
        self.on_rerun = on_rerun
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.wait_timeout = wait_timeout
        self.max_failed = max_failed
        self.on_breach = on_breach
        self.cancel_on_kill = cancel_on_kill
        self.ledger = ledger
        self.results = results
        self.spooled_conn_id = spooled_conn_id
        # For the link to it.
        self.shown_batch: dict[str, Any] | None = None
        self._running: Running | None = None
        check_options(self)
        # Airflow looks for references in template fields, and does not see into what we hold.
        XComArg.apply_upstream_relationship(self, [data, op_kwargs])

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """As Airflow's. A mapped task's constants are stored as they are, so rows are held here."""
        holders = {"data": hold, "op_kwargs": HeldArguments, "payload": hold_function}
        for name, held in holders.items():
            value = kwargs.get(name)
            # What refers to another task has to be seen, and is no row yet.
            if value is not None and not any(XComArg.iter_xcom_references(value)):
                kwargs[name] = held(value)
        return super().partial(**kwargs)

    @property
    def data(self) -> Any:
        """The path or URI; anything else is held out of sight."""
        return self._data

    @data.setter
    def data(self, data: Any) -> None:
        self._data = None if data is None else hold(data)

    @property
    def payload(self) -> Any:
        """What of a row goes to the worker; a function is held."""
        return self._payload

    @payload.setter
    def payload(self, payload: Any) -> None:
        self._payload = hold_function(payload)

    @property
    def op_kwargs(self) -> HeldArguments:
        """The arguments of a callable, held out of sight: there may be tables among them."""
        return self._op_kwargs

    @op_kwargs.setter
    def op_kwargs(self, op_kwargs: Mapping[str, Any] | HeldArguments | None) -> None:
        self._op_kwargs = (
            op_kwargs if isinstance(op_kwargs, HeldArguments) else HeldArguments(op_kwargs)
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Enqueue, and return `Batch.to_dict`: the batch's id and queue, and the counts.

        With the counts of its end, where the task waits for that.
        """
        began = time.time()
        try:
            with SpooledHook(self.spooled_conn_id).get_conn() as client:
                made = self._enqueued(client, context)
                if not self.wait_for_completion:
                    return self._ended(context, made, None)
                deadline = self._deadline(began)
                if not self.deferrable:
                    return self._ended(context, made, self._wait_here(client, made, deadline))
        except SourceError:
            # What could not be read now may be there for the next try.
            raise
        except InvalidArgumentError as error:
            raise AirflowFailException(error.message) from error
        finally:
            # It stays where an error ends the task: Airflow may still call on_kill then.
            if self._running is not None:
                self._running.check()
        self._running = None
        wait = BatchWait(batches_of(made, "empty"), self.max_failed)
        left = max(deadline - time.time(), 0.0)
        raise TaskDeferred(
            trigger=wait.trigger(self.spooled_conn_id, deadline, self._cancels_on_kill()),
            method_name="execute_complete",
            kwargs={"made": made},
            timeout=timedelta(seconds=left + _BACKSTOP_SECONDS),
        )

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any],
        made: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Go on where the trigger ended: return the counts, or fail with what is wrong."""
        status, message = event["status"], event.get("message", "")
        # Airflow's dag.test() keeps no arguments; the event has what is needed most.
        made = made or dict(event["batch"])
        self.shown_batch = made
        if status == "settled":
            return self._ended(context, made, event["stats"])
        if status == "failed":
            with SpooledHook(self.spooled_conn_id).get_conn() as client:
                self._breached(client, made, message)
        if status == "timeout":
            raise AirflowTaskTimeout(message)
        if status == "hopeless":
            raise AirflowFailException(message)
        raise SpooledError(message)

    def on_kill(self) -> None:
        """Stop sending, and cancel what has not started."""
        if self._running is not None:
            self._running.kill(cancels=self._cancels_on_kill())

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """What was read, and the queue that it went to."""
        from spooled_pipelines.airflow.lineage import of_enqueue

        return of_enqueue(self, task_instance)

    def _enqueued(self, client: SpooledClient, context: Context) -> dict[str, Any]:
        from spooled_pipelines.airflow.on_kill import Running
        from spooled_pipelines.airflow.operators.enqueuing import enqueue

        name = self.name or batch_name(context)
        self._running = Running(client, self.queue_name, name, self.log)
        made, ledger = enqueue(self, client, context, name)
        self.shown_batch = made
        self._running.generation = made["generation"]
        if self.ledger is not None and ledger is not None:
            from spooled_pipelines.airflow.operators.parquet_output import write_parquet

            made["ledger"] = write_parquet(ledger, self.ledger).path
        return made

    def _wait_here(
        self, client: SpooledClient, made: dict[str, Any], deadline: float
    ) -> dict[str, Any]:
        try:
            stats = client.batch(made).wait(
                timeout=max(deadline - time.time(), 0.0),
                max_failed=self.max_failed,
                on_progress=Progress(self.log.info),
            )
        except BatchFailedError as error:
            self._breached(client, made, error.message)
        except BatchTimeoutError as error:
            # A retry goes on with the jobs, so that they are none to clean up.
            self._running = None
            raise AirflowTaskTimeout(error.message) from error
        return stats_dict(stats)

    def _breached(self, client: SpooledClient, made: Mapping[str, Any], message: str) -> NoReturn:
        if self.on_breach == "stop":
            done = client.batch(dict(made)).cancel()
            message = f"{message} {done.cancelled} that had not started are cancelled."
        raise AirflowFailException(message)

    def _ended(
        self, context: Context, made: dict[str, Any], stats: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """What the task returns, once results are written and the assets have their events."""
        if self._running is not None:
            self._running.check()
            self._running = None
        counts = {} if stats is None else {n: stats[n] for n in _COUNTS}
        returned = {**made, **counts}
        if self.results is not None:
            from spooled_pipelines.airflow.operators.parquet_output import write_parquet

            with SpooledHook(self.spooled_conn_id).get_conn() as client:
                found = client.batch(made).results_reader()
                returned["results"] = write_parquet(found, self.results).path
        for outlet in self.outlets:
            if isinstance(outlet, Asset) and "outlet_events" in context:
                told = {n: returned[n] for n in (*_TOLD, *_COUNTS) if n in returned}
                context["outlet_events"][outlet].extra.update(told)
        return returned

    def _deadline(self, began: float) -> float:
        waited = self.wait_timeout
        seconds = waited.total_seconds() if isinstance(waited, timedelta) else float(waited)
        deadline = time.time() + seconds
        if self.execution_timeout is not None:
            deadline = min(deadline, began + self.execution_timeout.total_seconds())
        return deadline

    def _cancels_on_kill(self) -> bool:
        return config.cancel_on_kill() if self.cancel_on_kill is None else self.cancel_on_kill


_COUNTS = ("completed", "deadletter", "cancelled")
_TOLD = ("batch_id", "queue_name", "rows", "created", "duplicates", "rejected", "ledger", "results")
