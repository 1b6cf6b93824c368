"""What the operator does to enqueue: a whole batch, a part of one, or none for want of rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from spooled_pipelines.airflow.events import Tenths
from spooled_pipelines.airflow.operators.data_source import Held, open_data
from spooled_pipelines.errors import EmptyTableError, InvalidArgumentError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from spooled_pipelines.airflow.operators.enqueue_batch import EnqueueBatchOperator
    from spooled_pipelines.client.sync.client import SpooledClient

_ROW_OPTIONS = (
    *("columns", "where", "index", "key", "payload_schema", "priority", "scheduled_at"),
    *("max_retries", "timeout_seconds", "tags", "spread", "rate", "on_rejected", "on_lossy"),
)


class Enqueued(NamedTuple):
    """What the task will return, and what became of each row (a RecordBatchReader, or None)."""

    made: dict[str, Any]
    ledger: Any


def enqueue(
    operator: EnqueueBatchOperator, client: SpooledClient, context: Context, name: str
) -> Enqueued:
    """Enqueue what the operator's arguments say.

    Raises:
        InvalidArgumentError: the data or an argument is wrong.
        AirflowSkipException, AirflowFailException: there are no rows, and `on_empty` says so.
    """
    with _rows(operator, context) as source:
        if operator.part is not None:
            enqueued = _part(operator, client, name, source)
        else:
            enqueued = _whole(operator, client, name, source)
    made = enqueued.made
    operator.log.info(
        "Batch %s on queue %s: %d rows, %d jobs created, %d there already, %d rejected, "
        "%d dead letters back in the queue",
        *(made[n] for n in ("batch_id", "queue_name", "rows", "created", "duplicates")),
        *(made[n] for n in ("rejected", "retried")),
    )
    return enqueued


def _whole(
    operator: EnqueueBatchOperator, client: SpooledClient, name: str, source: dict[str, Any]
) -> Enqueued:
    on_rerun = _on_rerun(operator, client)
    try:
        batch = client.enqueue_batch(
            source.pop("data"),
            operator.queue_name,
            name=name,
            on_rerun=on_rerun,
            progress=Tenths(operator.log.info),
            **source,
            **_row_options(operator),
        )
    except EmptyTableError as error:
        _say_empty(operator, error)
        batch = client.open_batch(name, operator.queue_name).seal()
        batch.rows = batch.created = batch.duplicates = batch.rejected = 0
    batch.retried += _restored(client, batch.id, on_rerun)
    return Enqueued(batch.to_dict(), batch.ledger_reader())


def _part(
    operator: EnqueueBatchOperator, client: SpooledClient, name: str, source: dict[str, Any]
) -> Enqueued:
    """A part of a batch, which the sensor that waits for all parts will seal."""
    on_rerun = _on_rerun(operator, client)
    opened = client.open_batch(name, operator.queue_name, on_rerun=on_rerun)
    added = opened.add(
        str(operator.part),
        source.pop("data"),
        progress=Tenths(operator.log.info),
        **source,
        **_row_options(operator),
    )
    if not added.rows:
        _say_empty(operator, EmptyTableError(f"part {operator.part} has no rows."))
    part = added.to_dict()
    made = {
        **{n: part[n] for n in ("batch_id", "rows", "created", "duplicates", "rejected")},
        **{n: getattr(opened, n) for n in ("queue_name", "name", "generation")},
        "retried": opened.retried + _restored(client, opened.id, on_rerun),
        "extension": client.calls.speaks_batches(),
        "part": part,
        "opened": opened.to_dict(),
    }
    return Enqueued(made, added.ledger_reader())


def _row_options(operator: EnqueueBatchOperator) -> dict[str, Any]:
    payload = operator.payload.value if isinstance(operator.payload, Held) else operator.payload
    return {"payload": payload, **{n: getattr(operator, n) for n in _ROW_OPTIONS}}


@contextmanager
def _rows(operator: EnqueueBatchOperator, context: Context) -> Iterator[dict[str, Any]]:
    """The arguments that say where the rows are."""
    if operator.sql is None:
        yield {"data": open_data(operator.data, operator.op_kwargs.value, operator, context)}
        return
    hook = BaseHook.get_hook(str(operator.sql_conn_id))
    if not hasattr(hook, "get_records"):
        raise InvalidArgumentError(
            f"the Airflow connection {operator.sql_conn_id!r} is no database's: its hook is "
            f"{type(hook).__name__}, which runs no SQL"
        )
    with closing(hook.get_conn()) as connection:
        yield {"data": None, "sql": operator.sql, "connection": connection}


def _say_empty(operator: EnqueueBatchOperator, error: EmptyTableError) -> None:
    if operator.on_empty == "skip":
        raise AirflowSkipException(error.message) from error
    if operator.on_empty == "fail":
        raise AirflowFailException(error.message) from error
    operator.log.info("%s", error.message)


def _on_rerun(
    operator: EnqueueBatchOperator, client: SpooledClient
) -> Literal["resume", "retry_failed", "fresh"]:
    """The default must not keep a plain server, which has no such thing, from being used."""
    if operator.on_rerun == "retry_failed" and not client.calls.speaks_batches():
        operator.log.info("This server keeps no batches: jobs that are dead stay dead")
        return "resume"
    return operator.on_rerun


def _restored(client: SpooledClient, batch_id: str, on_rerun: str) -> int:
    """What a kill before had cancelled is wanted again, now that the task runs again."""
    if on_rerun != "retry_failed":
        return 0
    batch = client.batch(batch_id)
    return batch.retry_failed(cancelled=True) if batch.stats().cancelled else 0
