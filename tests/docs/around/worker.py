"""Around the page of workers: jobs for each of its handlers, and somebody who stops them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from spooled_pipelines.worker import Discard, Worker
from tests.support.doc_setup import (
    ORDERS,
    WAIT_SECONDS,
    a_dag,
    charge,
    client_in,
    free_ports,
    working,
    write_files,
)


@contextmanager
def page(page: Any) -> Iterator[None]:
    write_files()
    with client_in(page):
        yield


@contextmanager
def stopped_when_settled(page: Any) -> Iterator[None]:
    """What runs for ever is told to end, as systemd would, once its jobs are done."""
    batch = page.names["client"].enqueue_batch(ORDERS, "orders", key="order_id")

    def stop() -> None:
        batch.wait(timeout=WAIT_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextmanager
def handled(page: Any) -> Iterator[None]:
    yield
    client = page.names["client"]
    batch = client.enqueue_batch([{"number": 7, "amount": 2.5}], "typed")
    with working(client, "typed", page.names["handle"]):
        batch.wait(timeout=WAIT_SECONDS, max_failed=0)
    assert batch.results()["try"].to_pylist() == [1]


@contextmanager
def cancelled(page: Any) -> Iterator[None]:
    yield
    client = page.names["client"]
    batch = client.enqueue_batch([{"steps": 3}], "steps")
    with working(client, "steps", page.names["crunch"]):
        batch.wait(timeout=WAIT_SECONDS, max_failed=0)
    assert batch.results()["steps"].to_pylist() == [3]


@contextmanager
def scored(page: Any) -> Iterator[None]:
    yield
    client = page.names["client"]
    batch = client.enqueue_batch(ORDERS, "scores", key="order_id")
    with working(client, "scores", page.names["score"]):
        batch.wait(timeout=WAIT_SECONDS, max_failed=0)
    assert sorted(batch.results()["score"].to_pylist()) == [0.0725, 0.095, 0.12]


@contextmanager
def dead_letters(page: Any) -> Iterator[None]:
    client = page.names["client"]
    errors = ["TimeoutError: the bank", "the currency is unknown", "a test account"]

    def fail(job: Any) -> None:
        raise Discard(errors[job.payload["number"]])

    rows = pa.table({"number": [0, 1, 2], "currency": ["EUR", "?", "EUR"]})
    # The worker of the page has `orders`.
    page.replace['"orders"'] = '"dead"'
    batch = client.enqueue_batch(rows, "dead", key="number", name="dead")
    with Worker(client, "dead", fail):
        batch.wait(timeout=WAIT_SECONDS, max_failed=3)
    page.replace["b-…"] = batch.id
    page.replace["job-…"] = batch.results()["job_id"][0].as_py()
    yield
    assert client.dead_letters("dead") == []
    del page.replace['"orders"']


@contextmanager
def in_a_dag(page: Any) -> Iterator[None]:
    from spooled_pipelines.airflow import EnqueueBatchOperator

    with a_dag(page) as dag:
        page.names["enqueue"] = EnqueueBatchOperator(
            task_id="enqueue", data=ORDERS.to_pylist(), queue_name="work", key="order_id"
        )
        yield
    assert {task.task_id for task in dag.tasks} == {"enqueue", "work"}
    page.names["charge"] = charge


@contextmanager
def two_queues(page: Any) -> Iterator[None]:
    page.replace["0.0.0.0:8080"] = f"127.0.0.1:{free_ports(4)}"
    page.replace["--processes 4"] = "--processes 2"
    yield
    # A block before this one has closed the page's client.
    with client_in(page):
        batch = page.names["client"].enqueue_batch(ORDERS, "mail", key="order_id")
        batch.wait(timeout=WAIT_SECONDS, max_failed=0)
