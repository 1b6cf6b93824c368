"""Around what waits in Airflow: what is defined belongs to a DAG, and what enqueues is run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.doc_setup import ORDERS, a_dag, client_in, enqueues, working, write_files


@contextmanager
def page(page: Any) -> Iterator[None]:
    import pandas as pd
    from airflow.sdk import task

    from spooled_pipelines.airflow import BatchResultsOperator, EnqueueBatchOperator, SpooledHook

    write_files()
    page.replace["s3://shop/results/"] = "results-"
    page.names.update(task=task, pd=pd, SpooledHook=SpooledHook)
    page.names.update(
        EnqueueBatchOperator=EnqueueBatchOperator, BatchResultsOperator=BatchResultsOperator
    )
    with client_in(page) as client, working(client, "orders"):
        yield


@contextmanager
def tasks(page: Any) -> Iterator[None]:
    with a_dag(page) as dag:
        page.names["enqueue"] = page.names["EnqueueBatchOperator"](
            task_id="enqueue", data=ORDERS.to_pylist(), queue_name="orders", key="order_id"
        )
        if "done" in page.names:
            page.names["done"] = page.names["StreamJobsSensor"](
                task_id="done_before", batch=page.names["enqueue"].output
            )
        yield
    for returned in enqueues(dag):
        assert returned["rows"] == ORDERS.num_rows


@contextmanager
def dags(page: Any) -> Iterator[None]:

    yield
    assert len(page.names["orders_done"].watchers) == 1
