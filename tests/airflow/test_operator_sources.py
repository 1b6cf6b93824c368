"""What the operator reads: databases, assets, what functions yield, what mapped tasks gave."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.sdk import DAG, Asset, Connection, XComArg

from spooled_pipelines import SpooledClient
from spooled_pipelines.airflow import EnqueueBatchOperator, StreamJobsSensor, enqueue_batch
from spooled_pipelines.airflow.platform.versions import AirflowFailException, AirflowSkipException
from spooled_pipelines.errors import InvalidArgumentError, SourceError
from tests.support.server_process import ServerProcess

ROWS = [{"id": 1, "text": "one"}, {"id": 2, "text": "two"}]


def run(op: Any, context: Any) -> dict[str, Any]:
    op.render_template_fields(context)
    returned: dict[str, Any] = op.execute(context)
    return returned


def operator(queue: str, **arguments: Any) -> EnqueueBatchOperator:
    return EnqueueBatchOperator(task_id="enqueue", queue_name=queue, **arguments)


def payloads(client: SpooledClient, queue: str) -> list[dict[str, Any]]:
    jobs = client.dequeue(queue, "reader", batch_size=100)
    return sorted((job.payload for job in jobs), key=lambda payload: payload["id"])


# Databases.


class FileHook(DbApiHook):
    """A database of Airflow's kind: SQLite, whose file is the connection's host."""

    conn_name_attr = "file_conn_id"
    conn_type = "file"

    def get_conn(self) -> sqlite3.Connection:
        return sqlite3.connect(self.connection.host or "")


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "orders-run-1.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER, text TEXT)")
        connection.executemany("INSERT INTO orders VALUES (:id, :text)", ROWS)
    connection.close()
    monkeypatch.setenv("AIRFLOW_CONN_ORDERS_DB", f'{{"conn_type": "sqlite", "host": "{path}"}}')

    def get_hook(self: Connection, *, hook_params: Any = None) -> Any:
        # Which hook a connection type has is what installed providers say.
        return FileHook(file_conn_id=self.conn_id)

    monkeypatch.setattr(Connection, "get_hook", get_hook)
    return "orders_db"


def test_the_parameters_of_a_query_are_rendered_and_bound(
    database: str, connected: ServerProcess, queue: str, context: Any
) -> None:
    sql = "SELECT id, text FROM orders WHERE :run = 'run-1' AND id <> :id"
    parameters = {"run": "{{ run_id }}", "id": "0 OR 1 = 1"}
    returned = run(
        operator(queue, sql=sql, sql_conn_id=database, key="id", parameters=parameters), context
    )
    assert returned["rows"] > 0


def test_the_rows_of_a_query_become_jobs(
    database: str,
    connected: ServerProcess,
    client: SpooledClient,
    queue: str,
    context: Any,
) -> None:
    sql = "SELECT id, text FROM orders WHERE '{{ run_id }}' = 'run-1'"
    returned = run(operator(queue, sql=sql, sql_conn_id=database, key="id"), context)
    assert returned["created"] == 2
    assert payloads(client, queue) == ROWS
    assert run(operator(queue, sql=sql, sql_conn_id=database, key="id"), context)["created"] == 0


def test_a_query_that_the_database_refuses_leaves_the_task_its_retries(
    database: str, connected: ServerProcess, queue: str, context: Any
) -> None:
    with pytest.raises(SourceError, match="no such table: missing"):
        run(operator(queue, sql="SELECT * FROM missing", sql_conn_id=database), context)


def test_a_connection_that_is_no_database_is_named(
    connected: ServerProcess, queue: str, context: Any
) -> None:
    with pytest.raises(AirflowFailException, match="'spooled_default' is not a database's"):
        run(operator(queue, sql="SELECT 1", sql_conn_id="spooled_default"), context)


# Assets.


def test_an_asset_is_read_and_is_an_inlet(
    tmp_path: Path,
    connected: ServerProcess,
    client: SpooledClient,
    queue: str,
    context: Any,
) -> None:
    path = tmp_path / "orders.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    asset = Asset("orders", uri=path.as_uri())
    op = operator(queue, data=asset)
    run(op, context)
    assert payloads(client, queue) == ROWS
    assert op.inlets == [asset]


# Functions, and mapped tasks.


def frames() -> Iterator[pd.DataFrame]:
    yield pd.DataFrame(ROWS[:1])
    yield pd.DataFrame(ROWS[:0])
    yield pd.DataFrame(ROWS[1:])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(frames, id="yields frames"),
        pytest.param(lambda: map(pa.Table.from_pylist, [ROWS[:1], ROWS[1:]]), id="Arrow tables"),
        pytest.param(lambda: [ROWS[:1], [], ROWS[1:]], id="list of lists"),
        pytest.param(lambda: (row for row in ROWS), id="yields rows"),
        pytest.param([pd.DataFrame(ROWS[:1]), pd.DataFrame(ROWS[1:])], id="list of frames"),
    ],
)
def test_tables_below_each_other_are_one_batch(
    data: Any, connected: ServerProcess, client: SpooledClient, queue: str, context: Any
) -> None:
    assert run(operator(queue, data=data), context)["rows"] == 2
    assert payloads(client, queue) == ROWS


class TestTheDecorator:
    def test_what_the_function_returns_becomes_jobs(
        self, connected: ServerProcess, client: SpooledClient, queue: str, context: Any
    ) -> None:
        with DAG("d", schedule=None) as dag:

            @enqueue_batch(queue_name=queue, key="id")
            def orders(factor: int, *, label: str, params: Any = None) -> pd.DataFrame:
                """Orders."""
                rows = range(params["n"])
                return pd.DataFrame({"id": rows, "text": [f"{label}{n * factor}" for n in rows]})

            orders(2, label="{{ run_id }}/")
        op = dag.get_task("orders")
        assert run(op, context)["created"] == 3
        assert [p["text"] for p in payloads(client, queue)] == ["run-1/0", "run-1/2", "run-1/4"]
        assert op.doc_md == "Orders."

    def test_it_may_yield_tables(
        self, connected: ServerProcess, client: SpooledClient, queue: str, context: Any
    ) -> None:
        with DAG("d", schedule=None) as dag:

            @enqueue_batch(queue_name=queue)
            def orders() -> Iterator[pd.DataFrame]:
                yield from frames()

            enqueued = orders()
            StreamJobsSensor(task_id="wait", batch=enqueued)
        run(dag.get_task("orders"), context)
        assert payloads(client, queue) == ROWS
        assert dag.get_task("wait").upstream_task_ids == {"orders"}

    def test_it_is_one_of_airflows_task_decorators(self) -> None:
        from airflow.sdk import task

        with DAG("d", schedule=None) as dag:

            @task.enqueue_batch(queue_name="q")
            def orders() -> list[dict[str, Any]]:
                return ROWS

            orders()
        op = dag.get_task("orders")
        assert isinstance(op, EnqueueBatchOperator)
        assert op.task_type == "@task.enqueue_batch" or op.operator_name == "@task.enqueue_batch"

    def test_the_output_of_another_task_is_held_out_of_sight_too(
        self, connected: ServerProcess, client: SpooledClient, queue: str, context: Any
    ) -> None:
        class Pulled(XComArg):
            def resolve(self, context: Any) -> Any:
                return pd.DataFrame(ROWS)

            def iter_references(self) -> Iterator[Any]:
                return iter(())

        with DAG("d", schedule=None) as dag:

            @enqueue_batch(queue_name=queue)
            def orders(table: pd.DataFrame) -> pd.DataFrame:
                return table

            orders(cast("Any", Pulled()))
        op = dag.get_task("orders")
        op.render_template_fields(context)
        assert "one" not in repr(op.op_kwargs)
        run(op, context)
        assert payloads(client, queue) == ROWS

    def test_it_may_be_mapped(
        self, connected: ServerProcess, client: SpooledClient, queue: str, context: Any
    ) -> None:
        with DAG("d", schedule=None) as dag:

            @enqueue_batch(queue_name=queue)
            def orders(number: int) -> list[dict[str, Any]]:
                return [{"id": number}]

            orders.expand(number=[1, 2])
        for number in (1, 2):
            one = dag.get_task("orders").unmap({"op_kwargs": {"number": number}})
            run(one, context)
        assert [p["id"] for p in payloads(client, queue)] == [1, 2]

    @pytest.mark.parametrize("argument", ["data", "sql"])
    def test_it_takes_no_other_source(self, argument: str) -> None:
        other: dict[str, Any] = {argument: "x"}
        decorated = enqueue_batch(queue_name="q", **other)(lambda: None)
        with DAG("d", schedule=None), pytest.raises(InvalidArgumentError, match=f"no {argument}="):
            decorated()


# Nothing to enqueue.

NOTHING = [
    pytest.param(list, id="list"),
    pytest.param(lambda: iter(()), id="iterator"),
    pytest.param(lambda: pd.DataFrame({"id": []}), id="frame"),
    pytest.param(lambda: pa.table({"id": pa.array([], pa.int64())}), id="arrow"),
]


@pytest.mark.parametrize("data", NOTHING)
def test_a_table_without_rows_is_a_batch_that_nobody_waits_for(
    data: Any, connected: ServerProcess, queue: str, context: Any
) -> None:
    returned = run(operator(queue, data=data), context)
    assert (returned["rows"], returned["created"]) == (0, 0)
    stats = StreamJobsSensor(task_id="wait", batch=returned).execute(context)
    assert (stats["total"], stats["settled"]) == (0, True)


def test_a_batch_that_was_empty_may_be_filled_by_a_rerun(
    connected: ServerProcess, client: SpooledClient, queue: str, context: Any
) -> None:
    empty = run(operator(queue, data=list), context)
    filled = run(operator(queue, data=ROWS), context)
    assert filled["batch_id"] == empty["batch_id"]
    assert client.batch(filled).stats().pending == 2


@pytest.mark.parametrize(
    ("on_empty", "error"), [("skip", AirflowSkipException), ("fail", AirflowFailException)]
)
def test_a_table_without_rows_skips_or_fails_the_task_where_that_is_said(
    on_empty: Any,
    error: type[Exception],
    connected: ServerProcess,
    queue: str,
    context: Any,
) -> None:
    with pytest.raises(error, match="no rows"):
        run(operator(queue, data=list, on_empty=on_empty), context)


# What can be known when the DAG is read.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give one of them"),
        ({"data": "x", "sql": "SELECT 1", "sql_conn_id": "c"}, "give one of them"),
        ({"sql": "SELECT 1"}, "go together"),
        ({"data": "x", "on_empty": "pass"}, "on_empty must be 'success', 'skip' or 'fail'"),
        ({"data": "x", "on_rerun": "again"}, "on_rerun must be"),
        ({"data": "x", "on_breach": "stop"}, "need wait_for_completion=True"),
        ({"data": "x", "results": "r.parquet"}, "need wait_for_completion=True"),
        ({"data": "x", "ledger": 7}, "got 7"),
        ({"data": "x", "wait_for_completion": True, "max_failed": -1}, "max_failed must be"),
        ({"data": "x", "wait_for_completion": True, "allow_expired": 1}, "allow_expired must be"),
        ({"data": "x", "allow_expired": True}, "about the end of the jobs"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_with_the_dag(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        operator("q", **arguments)
    assert message in str(raised.value)


def test_a_connection_that_is_not_there_or_of_another_type_is_named(
    connect_airflow: Callable[..., None], queue: str, context: Any
) -> None:
    with pytest.raises(AirflowFailException, match="no Airflow connection 'nowhere': add it"):
        run(operator(queue, data=ROWS, spooled_conn_id="nowhere"), context)
    connect_airflow(conn_type="http", host="x", password="y")
    with pytest.raises(AirflowFailException, match="is of type 'http', not 'spooled'"):
        run(operator(queue, data=ROWS), context)
