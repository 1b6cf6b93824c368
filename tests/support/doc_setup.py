"""What the pages take for granted: a table of orders, files, handlers, workers, an Airflow."""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from spooled_pipelines import SpooledClient, connect
from spooled_pipelines.worker import Worker

ORDERS = pa.table({"order_id": [1, 2, 3], "amount": [9.5, 12.0, 7.25]})
# Longer than a console line takes.
WAIT_SECONDS = 90
HANDLERS = """
def charge(job):
    return {"charged": round(job.payload["amount"] * 1.2, 2)}


handle = score = charge
"""


class CannotRunError(Exception):
    """This machine does not let the page be run; the message says what is missing."""


def charge(job: Any) -> dict[str, float]:
    return {"charged": round(job.payload["amount"] * 1.2, 2)}


def write_files() -> None:
    """`orders.parquet`, `orders.csv`, `addresses.parquet` and `handlers.py`, in this folder."""
    pq.write_table(ORDERS, "orders.parquet")
    pq.write_table(ORDERS, "addresses.parquet")
    pacsv.write_csv(ORDERS, "orders.csv")
    Path("handlers.py").write_text(HANDLERS)


@contextmanager
def client_in(page: Any) -> Iterator[SpooledClient]:
    """`client`, `table` and `df` among the names, for as long as it lasts."""
    with connect() as client:
        page.names.update(client=client, table=ORDERS, df=ORDERS.to_pandas(), pa=pa)
        yield client


@contextmanager
def working(
    client: SpooledClient, queue: str, handler: Callable[..., Any] = charge
) -> Iterator[None]:
    """Somebody does the jobs of this queue."""
    with Worker(client, queue, handler):
        yield


def free_ports(count: int) -> int:
    """The first of so many ports beside each other that nobody has at the moment."""
    for first in random.SystemRandom().sample(range(20_000, 32_000), 1_000):
        try:
            for port in range(first, first + count):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first
    raise AssertionError("there are no free ports")


def connect_airflow(page: Any) -> None:
    """The connection `spooled_default` leads to the page's server."""
    host, _, port = page.address.rpartition(":")
    fields = {"conn_type": "spooled", "host": host, "port": int(port), "password": page.api_key}
    os.environ["AIRFLOW_CONN_SPOOLED_DEFAULT"] = json.dumps(fields)


class TaskContext(dict[str, Any]):
    """The few things of a task's context that operators here look at."""

    def __init__(self, task_id: str) -> None:
        ti = SimpleNamespace(dag_id="docs", task_id=task_id, map_index=-1, try_number=1)
        super().__init__(ti=ti, run_id="run-1", ds="2026-11-23", params={"n": 0}, outlet_events={})


def dags_in(names: Mapping[str, Any]) -> list[Any]:
    """The DAGs that a block has made."""
    from airflow.sdk import DAG

    return [value for value in names.values() if isinstance(value, DAG)]


@contextmanager
def a_dag(page: Any) -> Iterator[Any]:
    """A DAG that the tasks of the block belong to."""
    from airflow.sdk import DAG

    connect_airflow(page)
    with DAG(f"docs_{len(page.names)}", schedule=None) as dag:
        yield dag


def enqueues(dag: Any) -> list[dict[str, Any]]:
    """Runs each task of the DAG that enqueues and is not mapped; what they returned."""
    from spooled_pipelines.airflow import EnqueueBatchOperator

    returned = []
    for task in dag.tasks:
        if isinstance(task, EnqueueBatchOperator):
            task.deferrable = False
            context: Any = TaskContext(task.task_id)
            context["params"] |= task.params.dump()
            task.render_template_fields(context)
            returned.append(task.execute(context))
    return returned
