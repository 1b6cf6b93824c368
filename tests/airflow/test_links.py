"""A task's links lead to its batch and its queue on the server's page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from spooled_pipelines.airflow import BatchResultsOperator, EnqueueBatchOperator, StreamJobsSensor
from spooled_pipelines.airflow.links import BatchLink, QueueLink

MADE = {"batch_id": "b_1", "queue_name": "orders", "rows": 3}


def links(operator: Any) -> tuple[str, str]:
    key: Any = None
    return (
        BatchLink().get_link(operator, ti_key=key),
        QueueLink().get_link(operator, ti_key=key),
    )


@pytest.fixture
def page(connect_airflow: Callable[..., None]) -> None:
    connect_airflow(host="x", password="y", extra={"page": "https://spooled.example.org/"})


def test_the_operator_links_to_what_it_enqueued(page: None) -> None:
    op = EnqueueBatchOperator(task_id="e", data="x.parquet", queue_name="a b")
    assert links(op) == ("", "https://spooled.example.org/queues/a%20b")
    op.shown_batch = MADE
    assert links(op)[0] == "https://spooled.example.org/batches/b_1"


@pytest.mark.parametrize("batch", [MADE, "b_1"])
def test_the_sensor_links_to_what_it_waits_for(page: None, batch: Any) -> None:
    op = StreamJobsSensor(task_id="w", batch=batch)
    queue = "https://spooled.example.org/queues/orders" if batch is MADE else ""
    assert links(op) == ("https://spooled.example.org/batches/b_1", queue)
    waits = StreamJobsSensor(task_id="w", queue_name="orders")
    assert links(waits) == ("", "https://spooled.example.org/queues/orders")


def test_a_sensor_over_a_mapped_task_links_to_what_its_parts_share(page: None) -> None:
    queue = "https://spooled.example.org/queues/orders"
    parts = StreamJobsSensor(task_id="w", batch=[MADE, MADE])
    assert links(parts) == ("https://spooled.example.org/batches/b_1", queue)
    other = {**MADE, "batch_id": "b_2"}
    assert links(StreamJobsSensor(task_id="w", batch=[MADE, other])) == ("", queue)
    elsewhere = {**other, "queue_name": "refunds"}
    assert links(StreamJobsSensor(task_id="w", batch=[MADE, elsewhere])) == ("", "")
    assert links(StreamJobsSensor(task_id="w", batch={"rows": 3})) == ("", "")


def test_a_sensor_that_resumes_links_by_the_statistics_it_is_given(page: None) -> None:
    def resumed(batch_id: str, queue_name: str) -> tuple[str, str]:
        op = StreamJobsSensor(task_id="w", batch=[MADE])
        # What a mapped task returned is not read again.
        op.batch = iter(())  # type: ignore[assignment]
        stats = {"batch_id": batch_id, "queue_name": queue_name}
        op.execute_complete({}, {"status": "settled", "stats": stats})
        return links(op)

    queue = "https://spooled.example.org/queues/orders"
    assert resumed("b_1", "orders") == ("https://spooled.example.org/batches/b_1", queue)
    assert resumed("2 batches", "orders") == ("", queue)
    assert resumed("2 batches", "2 queues") == ("", "")


def test_results_link_to_their_batch(page: None) -> None:
    op = BatchResultsOperator(task_id="r", batch=MADE)
    assert links(op)[0] == "https://spooled.example.org/batches/b_1"


@pytest.mark.parametrize("where", [{}, {"page": ""}, {"page": "javascript:alert(1)"}])
def test_there_is_no_link_where_the_connection_names_no_page(
    where: dict[str, Any], connect_airflow: Callable[..., None]
) -> None:
    connect_airflow(host="x", password="y", extra=where)
    assert links(StreamJobsSensor(task_id="w", batch=MADE)) == ("", "")


def test_a_connection_that_is_not_there_is_no_second_error() -> None:
    assert links(StreamJobsSensor(task_id="w", batch=MADE, spooled_conn_id="no")) == ("", "")
