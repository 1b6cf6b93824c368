"""EnqueueBatchOperator: each row of a table becomes a job."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.sdk import Asset, BaseOperator, XComArg

from spooled_pipelines.airflow.arguments.opaque import unwrap, wrap, wrap_arguments, wrap_function
from spooled_pipelines.airflow.arguments.templates import TextTemplates, refuse_templates
from spooled_pipelines.airflow.handover.batch_refs import BatchRef
from spooled_pipelines.airflow.handover.events import EventStatus, WaitEvent
from spooled_pipelines.airflow.hooks import DEFAULT_CONNECTION, WithHook
from spooled_pipelines.airflow.links import BatchLink, QueueLink
from spooled_pipelines.airflow.on_kill import EnqueueGuard
from spooled_pipelines.airflow.operators import enqueue_options
from spooled_pipelines.airflow.operators.batch_table import open_table
from spooled_pipelines.airflow.operators.completion_wait import CompletionWait
from spooled_pipelines.airflow.operators.data_source import open_data, open_query
from spooled_pipelines.airflow.operators.enqueue_options import ROW_FIELDS
from spooled_pipelines.airflow.operators.enqueue_request import EnqueueRequest, batch_name, made_by
from spooled_pipelines.airflow.operators.output_file import write_file
from spooled_pipelines.airflow.platform import config
from spooled_pipelines.airflow.platform.versions import AirflowFailException, AirflowTaskTimeout
from spooled_pipelines.batch.outcome.verdict import Rule
from spooled_pipelines.errors import InvalidArgumentError, SpooledError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from spooled_pipelines.airflow.arguments.on_empty import OnEmpty
    from spooled_pipelines.airflow.operators.output_file import OutputPath
    from spooled_pipelines.batch.options.row_options import (
        LimitByOption,
        OnChanged,
        OnLossy,
        OnRejected,
        OnRerun,
        PayloadOption,
        PayloadSchema,
        RowFilter,
        SqlParameters,
        TagsOption,
    )
    from spooled_pipelines.batch.options.table_version import TableVersion
    from spooled_pipelines.batch.options.text_options import TextOptions
    from spooled_pipelines.batch.outcome.verdict import OnBreach
    from spooled_pipelines.client.sync.client import SpooledClient
    from spooled_pipelines.retry_backoff import RetryBackoffOption

# The same as a sensor's default.
_WAIT_SECONDS = timedelta(days=7).total_seconds()
_END_COUNTS = ("completed", "deadletter", "cancelled")
_ASSET_FIELDS = (
    *("batch_id", "queue_name", "rows", "created", "duplicates", "changed", "replaced"),
    "rejected",
    *("ledger", "results", *_END_COUNTS),
)


class EnqueueBatchOperator(WithHook, TextTemplates, BaseOperator):
    """Enqueues the rows of a table as the jobs of one batch, and returns the batch.

    The batch belongs to the task instance: whatever runs it again (a retry, Clear, a backfill
    that reprocesses the run) finds the jobs that are there and sends what is missing. Rows are
    never rendered, logged, stored in XCom or shown in the UI.

    What it returns fits in a few hundred bytes, and is what `StreamJobsSensor` takes:
    ``batch=enqueue.output``.

    Every argument is templated, except ``index``, ``payload_schema``, ``wait_for_completion``,
    ``deferrable`` and ``cancel_on_kill``: what a template says of a number is one once it is
    rendered, a duration is a number of seconds, and a time is as ISO 8601 writes it.

    Args:
        data: another task's output (a DataFrame or a list of dicts), the path or URI of a
            Parquet, CSV, JSON or Arrow file, glob or folder, or of a Delta or Iceberg table, an
            `Asset` (its URI is read, and it is an inlet), a callable, or whatever else
            `SpooledClient.enqueue_batch` takes. A callable gets those of ``op_kwargs`` and of the
            task's context that its signature names, and returns any of the others or yields tables.
        queue_name: the queue's name. Airflow's own ``queue`` is the executor's.
        sql, sql_conn_id: instead of ``data``, a query (the path of a .sql file will do)
            and the connection, of any database that Airflow has a hook for, to run it on. Its
            rows are streamed.
        parameters: values for the query's placeholders, bound by the database's driver:
            what a person may write, such as ``params``, belongs here and not into the query.
        columns: read only these columns.
        where: read only rows for which it is true, such as ``[("amount", ">", 5)]``.
        index: read a DataFrame's index as columns.
        text_options: how CSV and TSV files are read: a ``TextOptions``, or a dict of its fields.
        table_version: of a Delta or Iceberg table: its version or snapshot, or a time: the newest
            one then. ``"{{ data_interval_end }}"`` lets a retry read the same rows.
        key: the column or columns that identify a row; without it, its whole content does.
        payload: what of a row goes to the worker: None (every column that has no other use), a
            list of columns, a mapping of payload field to column, the one column that holds
            objects, or a function over a record batch.
        payload_schema: a JSON Schema, or a pydantic model, that every payload has to fit.
        priority, max_retries, timeout_seconds: numbers, or the columns that hold them.
        scheduled_at: a time with an offset, or the column that holds it: not before then.
        retry_backoff: the pause before retries: seconds, a list of one for each in turn, or a text
            such as ``"5s"`` or ``"exponential 5s cap 10m jitter 20%"``; or the column of these.
        weight: so many jobs go for one of a batch with weight 1, when they take turns: 1 to 100.
        fair_by: the column whose values take turns, in place of the batches, such as a customer's.
        limit_by: so many jobs of each value of a column run at once: ``("customer", 2)``.
        expires_at, ttl: what has not started by then, or in this time (``"2h"``), is cancelled.
        tags: constants for each job, a list of columns that each are a tag, or the column of them.
        spread, rate: rows fall due within this time, or so many a second, from ``scheduled_at`` on.
        name: the batch's name. Defaults to a name made of dag_id, task_id, run_id and map_index
            (without the latter for a part). Task instances with the same name fill the same batch.
        part: makes this task's rows a part of the batch, by this id, such as
            ``"{{ ti.map_index }}"`` of a mapped task. The batch is complete once a
            `StreamJobsSensor` that waits for all of them has sealed it.
        on_rejected: ``"raise"``: rows that cannot be jobs fail the task before anything is sent;
            ``"skip"``: they are left out and counted.
        on_lossy: ``"raise"``: a value that a payload cannot hold exactly fails the task before
            anything is sent; ``"string"``: it is sent as text; ``"null"``: it is left out;
            ``"round"``: a number is the nearest double; or one of these for each of some columns.
        on_changed: rows with the key of a job and another payload, as after a corrected source and
            a Clear: ``"keep"``: the job stays as it is, and they are counted and logged;
            ``"raise"``: they fail the task before anything is sent; ``"replace"``: a job that has
            not started, or that ``on_rerun`` puts back, gets the new payload.
        on_empty: what a table without rows means: ``"success"`` (a batch without jobs, which a
            sensor passes at once), ``"skip"`` or ``"fail"``.
        on_rerun: what a retry, a Clear or a reprocessing backfill does with the batch that is
            there: ``"retry_failed"`` sends what is missing and puts the batch's dead letters, and
            what was cancelled, back into the queue; ``"resume"`` only sends what is missing;
            ``"fresh"`` makes every row a new job and cancels what had not started of the old ones
            (retries of the task instance continue with what its first try began). On a server
            without the batch extension, ``"retry_failed"`` can do no more than ``"resume"``, and
            ``"fresh"`` fails the task.
        wait_for_completion: stay until every job is settled, and return the counts as well.
        deferrable: wait in the triggerer, which has to run, without a worker slot; False waits in
            the worker. None: as Airflow's ``[operators] default_deferrable`` says.
        wait_timeout: how long to wait at most, in seconds or as a timedelta; a week by default.
            ``execution_timeout`` holds, too, from the task's start on.
        max_failed: how many jobs may end as dead letters or cancelled: a count, or a fraction of
            all jobs between 0 and 1. More fail the task, as soon as that is certain.
        on_breach: what happens to the other jobs then: ``"raise"`` leaves them alone, ``"stop"``
            cancels those that have not started.
        allow_expired: whether jobs that did not start in time (``ttl``) do not count as failed.
        cancel_on_kill: whether the jobs that have not started are cancelled when the task is
            marked failed or success, or its process is told to end. None: as the configuration's
            ``[spooled] cancel_on_kill`` says. The task's next run puts them back.
        ledger: a .parquet or .arrow file (path or URI) for what became of each row.
        results: where to write what became of each job, as `BatchResultsOperator` does: the path or
            URI of a .parquet, .arrow, .csv or .jsonl file. Needs ``wait_for_completion``.
        op_kwargs: arguments for a callable ``data``.
        spooled_conn_id: the Airflow connection, of type ``spooled``.

    The asset events of its ``outlets`` carry the batch's id, its queue and the counts.

    Raises:
        AirflowFailException: the data or an argument is wrong, or too many jobs failed; trying
            again would not help, so retries are not used up.
        AirflowTaskTimeout: the batch was not settled in time; a retry continues to wait for it.
        SpooledError: the server cannot be reached or does not accept the key.
    """

    template_fields: Sequence[str] = enqueue_options.TEMPLATE_FIELDS
    text_fields: ClassVar[tuple[str, ...]] = enqueue_options.TEXT_FIELDS
    untemplated_fields: ClassVar[tuple[str, ...]] = enqueue_options.UNTEMPLATED
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql"}  # noqa: RUF012 - as Airflow's own
    operator_extra_links = (BatchLink(), QueueLink())
    # Tables are not copied when Airflow copies a DAG.
    shallow_copy_attrs: Sequence[str] = ("data", "op_kwargs")
    ui_color = "#dbeafe"

    def __init__(
        self,
        *,
        queue_name: str = "",
        data: Any = None,
        sql: str | None = None,
        sql_conn_id: str | None = None,
        parameters: SqlParameters | None = None,
        columns: Sequence[str] | None = None,
        where: RowFilter | None = None,
        index: bool = False,
        text_options: TextOptions | Mapping[str, Any] | None = None,
        table_version: TableVersion | None = None,
        key: str | Sequence[str] | None = None,
        payload: PayloadOption = None,
        payload_schema: PayloadSchema | None = None,
        priority: int | str | None = None,
        scheduled_at: datetime | str | None = None,
        max_retries: int | str | None = None,
        timeout_seconds: int | str | None = None,
        retry_backoff: RetryBackoffOption | None = None,
        weight: int | str | None = None,
        fair_by: str | None = None,
        expires_at: datetime | str | None = None,
        ttl: timedelta | float | str | None = None,
        limit_by: LimitByOption | None = None,
        tags: TagsOption = None,
        spread: timedelta | str | None = None,
        rate: float | str | None = None,
        name: str | None = None,
        part: str | int | None = None,
        on_rejected: OnRejected | str = "raise",
        on_lossy: OnLossy | str = "raise",
        on_changed: OnChanged | str = "keep",
        on_empty: OnEmpty | str = "success",
        on_rerun: OnRerun | str = "retry_failed",
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        wait_timeout: timedelta | float | str = _WAIT_SECONDS,
        max_failed: float | str = 0,
        on_breach: OnBreach | str = "raise",
        allow_expired: bool | str = False,
        cancel_on_kill: bool | None = None,
        ledger: OutputPath | None = None,
        results: OutputPath | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        spooled_conn_id: str = DEFAULT_CONNECTION,
        **kwargs: Any,
    ) -> None:
        given = dict(locals())
        super().__init__(**kwargs)
        enqueue_options.check_queue(queue_name, kwargs)
        if isinstance(data, Asset):
            self.inlets = [*self.inlets, data]
        self.data = wrap(data)
        self.sql = sql
        self.sql_conn_id = sql_conn_id
        self.parameters = parameters
        self.op_kwargs: Any = wrap_arguments(op_kwargs)
        self.queue_name = queue_name
        for option in ROW_FIELDS:
            setattr(self, option, wrap_function(given[option]))
        self.name = name
        self.part = part
        self.wait_for_completion = wait_for_completion
        self.deferrable = config.default_deferrable() if deferrable is None else deferrable
        # Texts until they are rendered.
        self.on_empty: Any = on_empty
        self.on_rerun: Any = on_rerun
        self.wait_timeout: Any = wait_timeout
        self.max_failed: Any = max_failed
        self.on_breach = on_breach
        self.allow_expired: Any = allow_expired
        self.cancel_on_kill = cancel_on_kill
        self.ledger = ledger
        self.results = results
        self.spooled_conn_id = spooled_conn_id
        # For the link to it.
        self.shown_batch: dict[str, Any] | None = None
        self._guard: EnqueueGuard | None = None
        refuse_templates(type(self), given)
        # What is wrong with the others is known once they are rendered.
        self._templates = enqueue_options.find_templates(given)
        enqueue_options.check_arguments(self._arguments())
        enqueue_options.check_together(self._arguments())
        # Airflow looks for references in template fields, and does not see into what is wrapped.
        XComArg.apply_upstream_relationship(self, [data, op_kwargs])

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """As Airflow's. A mapped task's constants are stored as they are, so rows are wrapped."""
        functions = dict.fromkeys(("payload", "payload_schema"), wrap_function)
        wrappers = {"data": wrap, "op_kwargs": wrap_arguments, **functions}
        for name, wrapper in wrappers.items():
            value = kwargs.get(name)
            # Airflow has to see a reference to another task, which is not rows yet.
            if value is not None and not any(XComArg.iter_xcom_references(value)):
                kwargs[name] = wrapper(value)
        enqueue_options.check_arguments(kwargs)
        return super().partial(**kwargs)

    def execute(self, context: Context) -> dict[str, Any]:
        """Enqueue, and return `Batch.to_dict`: the batch's id and queue, and the counts.

        A task that waits for completion returns the counts of the end as well.
        """
        began = time.time()
        try:
            self._parse_rendered()
            starts_over = self.on_rerun == "fresh"
            maker = made_by(context, (self.retries or 0) if starts_over else None)
            with self.hook.get_conn(maker) as client:
                batch = self._enqueue(client, context, is_attempt=maker != made_by(context))
                if not self.wait_for_completion:
                    return self._finish(context, batch, None)
                wait = self._wait()
                deadline = wait.deadline(began)
                if not self.deferrable:
                    stats = self._wait_here(wait, client, batch, deadline)
                    return self._finish(context, batch, stats)
        except InvalidArgumentError as error:
            raise AirflowFailException(error.message) from None
        finally:
            # It stays where an error ends the task: Airflow may still call on_kill then.
            if self._guard is not None:
                self._guard.raise_if_killed()
        self._guard = None
        conn_id, cancels = self.spooled_conn_id, self._cancels_on_kill()
        trigger = wait.trigger(conn_id, batch, deadline, cancels)
        raise trigger.deferral(self.log, batch=batch)

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any],
        batch: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Resume where the trigger ended: return the counts, or fail with what is wrong."""
        ended = WaitEvent.from_payload(event)
        # Airflow's dag.test() keeps no arguments; the event has what is needed most.
        batch = batch or ended.batch or {}
        self.shown_batch = batch
        match ended.status:
            case EventStatus.SETTLED:
                return self._finish(context, batch, ended.stats)
            case EventStatus.FAILED:
                with self.hook.get_conn() as client:
                    self._wait().raise_failed(client, batch, ended.message)
            case EventStatus.TIMEOUT:
                self._wait().raise_timeout(ended.message)
            case EventStatus.FATAL:
                raise AirflowFailException(ended.message)
        raise SpooledError(ended.message)

    def on_kill(self) -> None:
        """Stop sending, and cancel what has not started."""
        if self._guard is not None:
            self._guard.kill(cancels=self._cancels_on_kill())

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002
        """Return what was read, and the queue that it went to."""
        from spooled_pipelines.airflow.hooks.lineage import of_enqueue

        return of_enqueue(self)

    def _enqueue(
        self, client: SpooledClient, context: Context, *, is_attempt: bool
    ) -> dict[str, Any]:
        name = self.name or batch_name(context, whole=self.part is None)
        self._guard = EnqueueGuard(client, self.queue_name, name, self.log)
        options: Any = {option: unwrap(getattr(self, option)) for option in ROW_FIELDS}
        request = EnqueueRequest(
            queue_name=self.queue_name,
            name=name,
            is_named=bool(self.name),
            is_attempt=is_attempt,
            part=self.part,
            on_empty=self.on_empty,
            on_rerun=self.on_rerun,
            row_options=options,
            log=self.log,
        )
        with self._source(context) as source:
            batch, ledger = request.send(client, source)
        self.shown_batch = batch
        self._guard.generation = batch["generation"]
        if self.ledger is not None and ledger is not None:
            batch["ledger"] = write_file(ledger, self.ledger).path
        return batch

    @contextmanager
    def _source(self, context: Context) -> Iterator[dict[str, Any]]:
        """Open what is to be enqueued, as arguments of `SpooledClient.enqueue_batch`."""
        if self.sql is not None:
            with open_query(self.sql, str(self.sql_conn_id), self.parameters) as source:
                yield source
            return
        yield {"data": open_data(self.data, self.op_kwargs, self.render_template, context)}

    def _wait(self) -> CompletionWait:
        rule = Rule(self.max_failed, cast("OnBreach", self.on_breach), self.allow_expired)
        retries = self.on_rerun == "retry_failed"
        return CompletionWait(self.wait_timeout, self.execution_timeout, rule, retries)

    def _wait_here(
        self, wait: CompletionWait, client: SpooledClient, batch: dict[str, Any], deadline: float
    ) -> dict[str, Any]:
        try:
            return wait.here(client, batch, deadline, self.log)
        except AirflowTaskTimeout:
            # A retry continues with the jobs, so nothing has to be cleaned up.
            self._guard = None
            raise

    def _finish(
        self, context: Context, batch: dict[str, Any], stats: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Write the results, tell the assets, and return what the task returns."""
        if self._guard is not None:
            self._guard.raise_if_killed()
            self._guard = None
        returned = dict(batch)
        if stats is not None:
            returned.update({name: stats[name] for name in _END_COUNTS})
        if self.results is not None:
            with self.hook.get_conn() as client:
                table = open_table(client, BatchRef.parse(batch), self.log)
                returned["results"] = write_file(table, self.results).path
        for outlet in self.outlets:
            if isinstance(outlet, Asset) and "outlet_events" in context:
                extra = {name: returned[name] for name in _ASSET_FIELDS if name in returned}
                context["outlet_events"][outlet].extra.update(extra)
        return returned

    def _cancels_on_kill(self) -> bool:
        return config.cancel_on_kill() if self.cancel_on_kill is None else self.cancel_on_kill

    def _do_render_template_fields(self, parent: Any, *arguments: Any, **named: Any) -> None:
        super()._do_render_template_fields(parent, *arguments, **named)
        if parent is self:
            # Where templates are rendered as objects, a text may have become rows.
            self.data = wrap(self.data)

    def _parse_rendered(self) -> None:
        """Make of rendered texts what they say, and refuse what is wrong with that."""
        for name, value in enqueue_options.parse_rendered(self._arguments(), self._templates):
            setattr(self, name, value)
        enqueue_options.check_arguments(self._arguments())
        enqueue_options.check_together(self._arguments())
        enqueue_options.check_files(self._arguments())

    def _arguments(self) -> dict[str, Any]:
        # Ours alone: a class that is made from this one may set its own fields later.
        names = (*enqueue_options.TEMPLATE_FIELDS, *enqueue_options.UNTEMPLATED)
        return {name: unwrap(getattr(self, name)) for name in names}
