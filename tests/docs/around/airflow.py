"""Around the page of Airflow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from spooled_pipelines.airflow import EnqueueBatchOperator
from tests.support.doc_setup import TaskContext, connect_airflow


@contextmanager
def dags(page: Any) -> Iterator[None]:
    connect_airflow(page)
    yield
    assert {task.task_id for task in page.names["results"].dag.tasks} == {
        "enqueue",
        "done",
        "results",
    }


@contextmanager
def terminal(page: Any) -> Iterator[None]:
    """The variables lead to the server of the page."""
    page.replace['@localhost:50051"'] = f'@{page.address}"'
    yield


@contextmanager
def first_dag(page: Any) -> Iterator[None]:
    """Each task of the DAG does its part, one after the other."""
    connect_airflow(page)
    yield
    names = page.names
    rows = names["orders"].function()
    enqueue = EnqueueBatchOperator(
        task_id="e", data=rows, queue_name="first", key="order_id", retry_backoff="5s"
    )
    context: Any = TaskContext("e")
    batch = enqueue.execute(context)
    for task in (names["work"], names["results"]):
        task.batch = batch
    assert names["work"].execute(TaskContext("work"))["completed"] == 10
    charged = {
        row["order_id"]: row["charged"] for row in names["results"].execute(TaskContext("r"))
    }
    assert charged[9] == 22.2


@contextmanager
def connected(page: Any) -> Iterator[None]:
    """Each of the two ways to write it leads to the server."""
    host, _, port = page.address.rpartition(":")
    page.replace['"host": "localhost", "port": 50051'] = f'"host": "{host}", "port": {port}'
    page.replace["sp_test_..."] = page.api_key
    yield
    from spooled_pipelines.airflow import SpooledHook

    with SpooledHook().get_conn() as client:
        assert client.queue_stats("orders").total == 0
