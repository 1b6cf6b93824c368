"""Around the page of Airflow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.doc_setup import connect_airflow


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
def connected(page: Any) -> Iterator[None]:
    """Each of the two ways to write it leads to the server."""
    host, _, port = page.address.rpartition(":")
    page.replace['"host": "localhost", "port": 50051'] = f'"host": "{host}", "port": {port}'
    page.replace["sp_test_..."] = page.api_key
    yield
    from spooled_pipelines.airflow import SpooledHook

    with SpooledHook().get_conn() as client:
        assert client.queue_stats("orders").total == 0
