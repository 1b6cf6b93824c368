"""Around what enqueues from Airflow: what is defined is run, task by task."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.support.doc_setup import ORDERS, a_dag, enqueues, write_files


@contextmanager
def page(page: Any) -> Iterator[None]:
    from spooled_pipelines.airflow import StreamJobsSensor

    write_files()
    Path("s3-mount/orders").mkdir(parents=True)
    pq.write_table(ORDERS, "s3-mount/orders/2026-11-23.parquet")
    with sqlite3.connect("shop.db") as shop:
        shop.execute("CREATE TABLE customers (id INTEGER, email TEXT, since TEXT)")
        shop.execute("INSERT INTO customers VALUES (1, 'a@example.org', '2026-11-24')")
    shop_at = {"conn_type": "sqlite", "host": str(Path("shop.db").resolve())}
    os.environ["AIRFLOW_CONN_SHOP"] = json.dumps(shop_at)
    page.names.update(
        StreamJobsSensor=StreamJobsSensor, read_orders=lambda region, ds: ORDERS.to_pylist()
    )
    yield


@contextmanager
def tasks(page: Any) -> Iterator[None]:
    before = set(page.names)
    with a_dag(page) as dag:
        yield
        if "orders" in set(page.names) - before:
            # The decorated function makes its task where it is called.
            page.names["orders"]()
    for returned in enqueues(dag):
        # A block above may have made the same batch.
        assert returned["created"] + returned["duplicates"] == returned["rows"] >= 1
    assert dag.tasks
