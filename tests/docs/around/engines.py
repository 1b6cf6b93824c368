"""Around Spark, Dask and Ray: each as its own tests start it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.doc_setup import ORDERS, client_in, working

ROWS = ORDERS.to_pylist()


@contextmanager
def on_spark(page: Any) -> Iterator[None]:
    if "spark" not in page.names:
        from tests.support.engine_of_spark import started

        page.names["spark"] = page.beside.enter_context(started()).session
    spark = page.names["spark"]
    stream = spark.readStream.format("rate").option("rowsPerSecond", 5).load()
    page.names["orders"] = spark.createDataFrame(ORDERS.to_pandas())
    page.names["stream"] = stream.selectExpr("value AS order_id", "1.5 AS amount")
    page.names["path"] = "checkpoints"
    with client_in(page) as client, working(client, "orders"):
        there = client.enqueue_batch(ORDERS, "orders", key="order_id", name="read")
        page.replace["b_…"] = there.id
        yield
        for query in spark.streams.active:
            query.processAllAvailable()
            query.stop()


@contextmanager
def on_dask(page: Any) -> Iterator[None]:
    import dask.dataframe as dd

    from tests.support.engine_of_dask import started

    with started(), client_in(page) as client, working(client, "orders"):
        page.names["frame"] = dd.from_pandas(ORDERS.to_pandas(), npartitions=2)
        yield
        page.names["batch"].wait(timeout=60)
        assert len(page.names["done"].compute()) == len(ROWS)


@contextmanager
def on_ray(page: Any) -> Iterator[None]:
    import ray.data

    from tests.support.engine_of_ray import started

    with started(), client_in(page) as client, working(client, "orders"):
        page.names["dataset"] = ray.data.from_items(ROWS)
        yield
        assert page.names["batch"].wait(timeout=60).completed == len(ROWS)
