"""EnqueueBatchOperator: each row of a table becomes a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import BaseOperator, XComArg
from airflow.sdk.exceptions import AirflowFailException

from spooled_pipelines.airflow.data import Held, HeldArguments, hold, hold_function, open_data
from spooled_pipelines.airflow.hook import DEFAULT_CONNECTION, SpooledHook
from spooled_pipelines.airflow.outcome import Tenths
from spooled_pipelines.airflow.scope import batch_name
from spooled_pipelines.errors import InvalidArgumentError, SourceError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from spooled_pipelines.batch.exact import OnLossy
    from spooled_pipelines.batch.mapping import PayloadOption, TagsOption
    from spooled_pipelines.client.sync.client import SpooledClient


class EnqueueBatchOperator(BaseOperator):
    """Enqueues the rows of a table as the jobs of one batch, and returns the batch.

    The batch belongs to the task instance: whatever runs it again (a retry, Clear, a backfill
    that reprocesses the run) finds the jobs that are there and sends what is missing. Rows are
    never rendered, logged, stored in XCom or shown in the UI.

    What it returns fits in a few hundred bytes, and is what `StreamJobsSensor` takes:
    ``batch=enqueue.output``.

    Args:
        data: another task's output (a DataFrame or a list of dicts), the path or URI of a
            Parquet, CSV, JSON or Arrow file, glob or folder (templated), a callable, or whatever
            else `SpooledClient.enqueue_batch` takes. A callable gets
            those of ``op_kwargs`` and of the task's context that its signature names, and
            returns any of the others.
        queue_name: the queue's name (templated). Airflow's own ``queue`` is the executor's.
        columns: read these columns alone.
        where: read the rows alone for which it is true, such as ``[("amount", ">", 5)]``.
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
        on_rejected: ``"raise"``: rows that cannot be jobs fail the task before anything is sent;
            ``"skip"``: they are left out and counted.
        on_lossy: ``"raise"``: a value that a payload cannot hold exactly fails the task before
            anything is sent; ``"string"``: it is sent as text; ``"null"``: it is left out; or
            one of these for each of some columns.
        on_rerun: what a retry, a Clear or a reprocessing backfill does with the batch that is
            there: ``"retry_failed"`` sends what is missing and puts the batch's dead letters
            back into the queue; ``"resume"`` only sends what is missing; ``"fresh"`` makes every
            row a new job and cancels what had not started of the old ones (a try that was cut
            short is finished, not begun again). On a server without the batch extension,
            ``"retry_failed"`` can do no more than ``"resume"``, and ``"fresh"`` fails the task.
        op_kwargs: arguments for a callable ``data`` (templated).
        spooled_conn_id: the Airflow connection, of type ``spooled``.

    Raises:
        AirflowFailException: the data or an argument is not what it has to be; trying again
            would not help, so retries are not used up.
        SpooledError: the server cannot be reached or does not take the key.
    """

    template_fields: Sequence[str] = (
        "data",
        "op_kwargs",
        "queue_name",
        "key",
        "payload",
        "tags",
        "name",
        "spooled_conn_id",
    )
    # Tables are not copied when Airflow copies a DAG.
    shallow_copy_attrs: Sequence[str] = ("_data", "_op_kwargs")
    ui_color = "#dbeafe"

    def __init__(
        self,
        *,
        data: Any,
        queue_name: str,
        columns: Sequence[str] | None = None,
        where: Any = None,
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
        on_rejected: Literal["raise", "skip"] = "raise",
        on_lossy: OnLossy = "raise",
        on_rerun: Literal["resume", "retry_failed", "fresh"] = "retry_failed",
        op_kwargs: Mapping[str, Any] | None = None,
        spooled_conn_id: str = DEFAULT_CONNECTION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.data = data
        self.op_kwargs = op_kwargs
        self.queue_name = queue_name
        self.columns = columns
        self.where = where
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
        self.on_rejected = on_rejected
        self.on_lossy = on_lossy
        self.on_rerun = on_rerun
        self.spooled_conn_id = spooled_conn_id
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
        self._data = hold(data)

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
        """Enqueue, and return `Batch.to_dict`: the batch's id and queue, and the counts."""
        try:
            payload = self.payload.value if isinstance(self.payload, Held) else self.payload
            table = open_data(self.data, self.op_kwargs.value, self, context)
            with SpooledHook(self.spooled_conn_id).get_conn() as client:
                batch = client.enqueue_batch(
                    table,
                    self.queue_name,
                    columns=self.columns,
                    where=self.where,
                    key=self.key,
                    payload=payload,
                    payload_schema=self.payload_schema,
                    priority=self.priority,
                    scheduled_at=self.scheduled_at,
                    max_retries=self.max_retries,
                    timeout_seconds=self.timeout_seconds,
                    tags=self.tags,
                    spread=self.spread,
                    rate=self.rate,
                    name=self.name or batch_name(context),
                    on_rejected=self.on_rejected,
                    on_lossy=self.on_lossy,
                    on_rerun=self._on_rerun(client),
                    progress=Tenths(self.log.info),
                )
        except SourceError:
            # What could not be read now may be there for the next try.
            raise
        except InvalidArgumentError as error:
            raise AirflowFailException(error.message) from error
        self.log.info(
            "Batch %s on queue %s: %d rows, %d jobs created, %d there already, %d rejected, "
            "%d dead letters back in the queue",
            batch.id,
            batch.queue_name,
            batch.rows,
            batch.created,
            batch.duplicates,
            batch.rejected,
            batch.retried,
        )
        returned: dict[str, Any] = batch.to_dict()
        return returned

    def _on_rerun(self, client: SpooledClient) -> Literal["resume", "retry_failed", "fresh"]:
        """The default must not keep a plain server, which has no such thing, from being used."""
        if self.on_rerun == "retry_failed" and not client.calls.speaks_batches():
            self.log.info("This server keeps no batches: jobs that are dead stay dead")
            return "resume"
        return self.on_rerun
