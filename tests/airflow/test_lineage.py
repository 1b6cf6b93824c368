"""Where OpenLineage is installed it is told what was read, where it went, and how many."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.sqlite.hooks.sqlite import SqliteHook
from airflow.sdk import ObjectStoragePath

from spooled_pipelines import SpooledClient
from spooled_pipelines.airflow import BatchResultsOperator, EnqueueBatchOperator, StreamJobsSensor
from tests.support.server_process import ServerProcess


def names(datasets: Any) -> list[tuple[str, str]]:
    return [(one.namespace, one.name) for one in datasets]


@pytest.fixture
def nowhere(connect_airflow: Callable[..., None]) -> None:
    connect_airflow(host="spooled.example.org", port=50051, password="sp_test_key")


@pytest.mark.usefixtures("nowhere")
def test_without_it_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage.extractors", None)
    op = EnqueueBatchOperator(task_id="e", data="/data/orders.parquet", queue_name="orders")
    assert op.get_openlineage_facets_on_complete(None) is None


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    ("data", "inputs"),
    [
        ("/data/orders.parquet", [("file", "/data/orders.parquet")]),
        ("s3://lake@shop/a/b.parquet", [("s3://shop", "a/b.parquet")]),
        (["/a.csv", "/b.csv"], [("file", "/a.csv"), ("file", "/b.csv")]),
        (ObjectStoragePath("s3://lake@shop/a.csv"), [("s3://shop", "a.csv")]),
        ([{"id": 1}], []),
    ],
)
def test_with_it_the_input_and_the_queue_are(data: Any, inputs: list[tuple[str, str]]) -> None:
    op = EnqueueBatchOperator(task_id="e", data=data, queue_name="orders", ledger="/out/l.parquet")
    found = op.get_openlineage_facets_on_complete(None)
    assert names(found.inputs) == inputs
    queue = ("spooled://spooled.example.org:50051", "orders")
    assert names(found.outputs) == [("file", "/out/l.parquet"), queue]


@pytest.mark.usefixtures("nowhere")
def test_a_querys_tables_are_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", '{"conn_type": "sqlite", "host": "/tmp/shop.db"}')
    # As the providers of PostgreSQL, Snowflake and others say of theirs; SQLite's says nothing.
    # It takes half a second to load, and each process of a run of tests collects this file.
    from airflow.providers.openlineage.sqlparser import DatabaseInfo

    info = DatabaseInfo(scheme="sqlite", authority="shop")
    monkeypatch.setattr(SqliteHook, "get_openlineage_database_info", lambda *_: info)
    op = EnqueueBatchOperator(
        task_id="e", sql="SELECT id FROM customers", sql_conn_id="shop", queue_name="orders"
    )
    found = op.get_openlineage_facets_on_complete(None)
    assert any("customers" in name for _, name in names(found.inputs))


def test_the_queue_is_what_a_sensor_and_results_read_with_the_counts(
    connected: ServerProcess, client: SpooledClient, queue: str, context: Any, tmp_path: Any
) -> None:
    enqueue = EnqueueBatchOperator(task_id="e", data=[{"id": 1}], queue_name=queue)
    batch = enqueue.execute(context)
    told = enqueue.get_openlineage_facets_on_complete(None).run_facets["spooled_batch"]
    assert (told.batch_id, told.rows, told.created) == (batch["batch_id"], 1, 1)
    client.complete(client.dequeue(queue, "hand")[0], result={"ok": True})
    wait = StreamJobsSensor(task_id="w", batch=batch)
    wait.execute(context)
    path = str(tmp_path / "results.parquet")
    results = BatchResultsOperator(task_id="r", batch=batch, path=path)
    results.execute(context)
    for op, outputs in ((wait, []), (results, [("file", path)])):
        found = op.get_openlineage_facets_on_complete(None)
        assert names(found.inputs) == [(f"spooled://{connected.address}", queue)]
        assert names(found.outputs) == outputs
        assert found.run_facets["spooled_batch"].batch_id == batch["batch_id"]
