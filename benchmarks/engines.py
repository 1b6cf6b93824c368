"""A million rows of Parquet, by each engine, by one client, and by Spark tasks over the SDK.

Each engine has two processes on this machine, as many as the server leaves cores for at best; what
more machines would bring is in `docs/sizing.md`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import Rate
from benchmarks.servers import API_KEY, server
from benchmarks.tables import flights
from spooled_pipelines import Batch, SpooledClient, connect

_PARTITIONS, _ROWS_EACH, _LOOPED = 200, 5_000, 4_000
_ROWS = _PARTITIONS * _ROWS_EACH

# Enqueues a folder of Parquet into the queue that it is given.
Enqueue = Callable[[str, SpooledClient, str], Batch]


def engines() -> bool:
    """Each side once: they take a minute or so each."""
    with (
        tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as name,
        server() as address,
        connect(address, api_key=API_KEY) as client,
    ):
        folder = str(_write(Path(name)))
        one = _timed("one client", folder, client, _one_client)
        print(f"            {one}", flush=True)
        for engine in (_dask, _ray, _spark):
            with engine() as (enqueue, loop):
                what = engine.__name__.removeprefix("_")
                found = _timed(what, folder, client, enqueue)
                print(f"{found.per_second / one.per_second:8.2f} ×  one client")
                print(f"            {found}", flush=True)
                if loop is not None:
                    looped = _timed_loop(folder, address, client, loop)
                    print(f"{found.per_second / looped.per_second:8.2f} ×  {looped.what}")
                    print(f"            {looped}", flush=True)
    return True


def _write(folder: Path) -> Path:
    """Write the table as several files."""
    frame = flights(_ROWS)
    table = folder / "flights"
    table.mkdir()
    for number in range(_PARTITIONS):
        piece = frame.iloc[number * _ROWS_EACH : (number + 1) * _ROWS_EACH]
        piece.to_parquet(table / f"{number:03d}.parquet", index=False)
    return table


def _timed(what: str, folder: str, client: SpooledClient, enqueue: Enqueue) -> Rate:
    queue = what.replace(" ", "_")
    started = time.perf_counter()
    batch = enqueue(folder, client, queue)
    seconds = time.perf_counter() - started
    stats = batch.stats()
    assert (stats.total, stats.sealed) == (_ROWS, True), stats
    return Rate(what, _ROWS, (seconds,))


def _timed_loop(
    folder: str, address: str, client: SpooledClient, loop: Callable[[str, str], None]
) -> Rate:
    started = time.perf_counter()
    loop(folder, address)
    seconds = time.perf_counter() - started
    assert client.queue_stats("looped").pending == _LOOPED
    return Rate("foreachPartition with a loop over the SDK", _LOOPED, (seconds,))


def _one_client(folder: str, client: SpooledClient, queue: str) -> Batch:
    return client.enqueue_batch(folder, queue, name=queue, key="flight")


@contextmanager
def _dask() -> Iterator[tuple[Enqueue, None]]:
    import dask.dataframe as dd
    from distributed import Client, LocalCluster

    from spooled_pipelines.engines import dask as engine

    def enqueue(folder: str, client: SpooledClient, queue: str) -> Batch:
        frame = dd.read_parquet(folder, split_row_groups=True, aggregate_files=False)
        return engine.enqueue(frame, queue, client=client, name=queue, key="flight")

    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        Client(cluster),  # type: ignore[no-untyped-call]
    ):
        yield enqueue, None


@contextmanager
def _ray() -> Iterator[tuple[Enqueue, None]]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    from spooled_pipelines.engines import ray as engine

    def enqueue(folder: str, client: SpooledClient, queue: str) -> Batch:
        frame = ray.data.read_parquet(folder, override_num_blocks=_PARTITIONS)
        return engine.enqueue(frame, queue, client=client, name=queue, key="flight")

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield enqueue, None
    finally:
        ray.shutdown()


@contextmanager
def _spark() -> Iterator[tuple[Enqueue, Callable[[str, str], None]]]:
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    # Spark's own processes find the module of the loop there.
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    from pyspark.sql import SparkSession

    from spooled_pipelines.engines import spark as engine

    builder = SparkSession.builder.master("local-cluster[2,1,700]").appName("benchmarks")
    for name, value in {
        "spark.ui.enabled": "false",
        "spark.executor.memory": "600m",
        "spark.driver.host": "127.0.0.1",
        "spark.log.level": "ERROR",
        # A file is a partition.
        "spark.sql.files.openCostInBytes": str(2**27),
    }.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()

    def enqueue(folder: str, client: SpooledClient, queue: str) -> Batch:
        frame = session.read.parquet(folder)
        assert frame.rdd.getNumPartitions() == _PARTITIONS
        return engine.enqueue(frame, queue, client=client, name=queue, key="flight")

    def loop(folder: str, address: str) -> None:
        frame = session.read.parquet(folder).limit(_LOOPED).repartition(2)
        frame.foreachPartition(lambda rows: _looped(rows, address))

    try:
        yield enqueue, loop
    finally:
        session.stop()


def _looped(rows: Iterator[Any], address: str) -> None:
    """Enqueue as people do today."""
    from benchmarks.sdk import sdk_client

    client = sdk_client(address)
    for row in rows:
        client.queue.enqueue("looped", row.asDict())
    client.close()
