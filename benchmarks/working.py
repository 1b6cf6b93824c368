"""What one worker process does: settled jobs a second, latency, many that sleep, rows at once."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks import raw_claims
from benchmarks.measure import Rate, Side, in_turns, show_ratio
from benchmarks.postgres import cluster
from benchmarks.sdk import sdk_client
from benchmarks.servers import API_KEY, server, server_over
from benchmarks.tables import flights
from spooled_pipelines import Job, SpooledClient, connect
from spooled_pipelines.worker import Worker, batch_handler

_JOBS = 20_000
_SDK_JOBS = 3_000
_SDK_LOT = 100
_ROWS_JOBS = 2_000
_SLEEPERS, _AT_ONCE, _NAP_SECONDS = 10_000, 1_000, 1.0
_SLEEPING_SHARE = 0.9
_LATENCIES = 300
_RAW_JOBS, _RAW_RUNS = 60_000, 3
_PAUSE_SECONDS = 0.01


def working() -> bool:
    """Against a loop over the official SDK in the same run; the rest against what it could be."""
    kept = []
    with server() as address, connect(address, api_key=API_KEY) as client:
        kept.append(_against_the_sdk(address, client))
        kept.append(_rows_against_single(address, client))
        kept.append(_sleeping(address, client))
        _latency(address, client)
    with (
        cluster() as url,
        server("--store", url) as address,
        connect(address, api_key=API_KEY) as client,
    ):
        print(f"            {_no_ops(address, client, 'PostgreSQL')}")
    kept += [_rows_on_sqlite(), _rows_on_postgres()]
    print(f"            load average {os.getloadavg()[0]:.1f}", flush=True)
    return all(kept)


def _rows_on_sqlite() -> bool:
    """Compare a handler of rows that copies a column with the store's SQL alone."""
    with tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as folder:

        def work(run: int) -> float:
            store = Path(folder) / f"{run}.db"
            with (
                server_over(store) as address,
                connect(address, api_key=API_KEY) as client,
            ):
                client.enqueue_batch(flights(_RAW_JOBS), "raw", name="raw")
                return _copied(address, client)

        def raw(run: int) -> float:
            return raw_claims.on_sqlite(Path(folder) / f"{run}.db", "raw", _RAW_JOBS)

        return _show_raw("SQLite", 0.35, work, raw)


def _rows_on_postgres() -> bool:
    with (
        cluster() as url,
        server("--store", url) as address,
        connect(address, api_key=API_KEY) as client,
    ):

        def work(run: int) -> float:
            client.enqueue_batch(flights(_RAW_JOBS), "raw", name=f"raw {run}")
            return _copied(address, client, run)

        def raw(_: int) -> float:
            return raw_claims.on_postgres(url, "raw", _RAW_JOBS)

        return _show_raw("PostgreSQL", 0.8, work, raw)


def _show_raw(
    store: str, wanted: float, work: Callable[[int], float], raw: Callable[[int], float]
) -> bool:
    ours, theirs = in_turns(
        Side(f"a handler of rows, {store}", _RAW_JOBS, work),
        Side("claims and completions in SQL, groups of 200, committed", _RAW_JOBS, raw),
        runs=_RAW_RUNS,
    )
    return show_ratio(
        f"the speed of raw SQL on {store}, same columns and indexes", wanted, ours, theirs
    )


def _copied(address: str, client: SpooledClient, run: int = 0) -> float:
    client.enqueue_batch(flights(_RAW_JOBS), "copied", name=f"copied {run}")
    options: dict[str, Any] = {"api_key": API_KEY, "stop_when_empty": True}
    return _timed(Worker(address, "copied", _copy, **options), _RAW_JOBS, "").seconds[0]


@batch_handler(max_rows=2_000)
def _copy(rows: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch({"flight": rows["flight"]})


def _against_the_sdk(address: str, client: SpooledClient) -> bool:
    client.enqueue_batch(flights(_SDK_JOBS), "sdk")
    theirs = _sdk_loop(address)
    ours = _no_ops(address, client, "SQLite")
    return show_ratio("a loop over the official SDK, settled jobs a second", 5, ours, theirs)


def _no_ops(address: str, client: SpooledClient, store: str) -> Rate:
    client.enqueue_batch(flights(_JOBS), "q")
    worker = Worker(address, "q", _nothing, api_key=API_KEY, stop_when_empty=True)
    return _timed(worker, _JOBS, f"Worker, its defaults, {store}")


def _sdk_loop(address: str) -> Rate:
    with sdk_client(address) as sdk:
        began = time.perf_counter()
        done = 0
        while True:
            jobs = sdk.queue.dequeue("sdk", "w", batch_size=_SDK_LOT).jobs
            if not jobs:
                break
            for job in jobs:
                sdk.queue.complete(job.id, "w", lease_id=job.lease_id)
                done += 1
        seconds = time.perf_counter() - began
    assert done == _SDK_JOBS
    return Rate("the official SDK: dequeue of 100, complete one by one", _SDK_JOBS, (seconds,))


def _rows_against_single(address: str, client: SpooledClient) -> bool:
    """Rows into a table that is on the disk after each call: what one statement is for."""
    with tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as folder:
        table = _Table(Path(folder) / "table.db")
        rates = []
        for what, handler in (("each job by itself", table.insert), ("rows", table.insert_rows)):
            client.enqueue_batch(flights(_ROWS_JOBS), "rows", name=what)
            options: dict[str, Any] = {"api_key": API_KEY, "stop_when_empty": True}
            worker = Worker(address, "rows", handler, **options)
            rates.append(_timed(worker, _ROWS_JOBS, f"inserts into SQLite, {what}"))
        assert table.count() == 2 * _ROWS_JOBS
    single, rows = rates
    return show_ratio("a handler of single jobs, jobs a second", 3, rows, single)


class _Table:
    def __init__(self, path: Path) -> None:
        self._path = path
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE flights (flight INTEGER, delay REAL)")

    def insert(self, job: Job) -> None:
        self._write([(job.payload["flight"], job.payload["delay"])])

    @batch_handler(max_rows=500)
    def insert_rows(self, rows: pa.RecordBatch) -> None:
        columns = (rows[name].to_pylist() for name in ("flight", "delay"))
        self._write(list(zip(*columns, strict=True)))

    def count(self) -> int:
        with sqlite3.connect(self._path) as connection:
            return int(connection.execute("SELECT count(*) FROM flights").fetchone()[0])

    def _write(self, values: list[tuple[Any, ...]]) -> None:
        connection = sqlite3.connect(self._path, timeout=60)
        with connection:
            connection.executemany("INSERT INTO flights VALUES (?, ?)", values)
        connection.close()


def _sleeping(address: str, client: SpooledClient) -> bool:
    client.enqueue_batch(flights(_SLEEPERS), "sleep")
    options: dict[str, Any] = {"api_key": API_KEY, "stop_when_empty": True}
    worker = Worker(address, "sleep", _sleep, concurrency=_AT_ONCE, **options)
    what = f"async handlers that sleep {_NAP_SECONDS:g} s, {_AT_ONCE:,} at once"
    slept = _timed(worker, _SLEEPERS, what)
    share = slept.per_second / (_AT_ONCE / _NAP_SECONDS)
    kept = share >= _SLEEPING_SHARE
    print(
        f"{100 * share:8.1f} %  of the ideal rate (wanted: {100 * _SLEEPING_SHARE:g} %"
        f"{'' if kept else ', MISSED'})\n            {slept}",
        flush=True,
    )
    return kept


def _latency(address: str, client: SpooledClient) -> None:
    """From the call of Enqueue to the first line of the handler, each when all is idle."""
    began = 0.0
    seconds: list[float] = []

    def handler(_: Job) -> None:
        seconds.append(time.perf_counter() - began)

    with Worker(address, "late", handler, api_key=API_KEY):
        for number in range(_LATENCIES):
            time.sleep(_PAUSE_SECONDS)
            began = time.perf_counter()
            client.enqueue("late", {"number": number})
            while len(seconds) <= number:
                time.sleep(0.0002)
    quantiles = statistics.quantiles(seconds, n=100)
    print(
        f"{1e3 * statistics.median(seconds):8.2f} ms from Enqueue to the start of the handler, all "
        f"idle: median of {_LATENCIES:,}; p99 {1e3 * quantiles[98]:.2f} ms",
        flush=True,
    )


def _timed(worker: Worker, jobs: int, what: str) -> Rate:
    began = time.perf_counter()
    report = worker.run()
    seconds = time.perf_counter() - began
    assert report.completed == jobs, report
    return Rate(what, jobs, (seconds,))


async def _sleep(_: Job) -> None:
    await asyncio.sleep(_NAP_SECONDS)


def _nothing(_: object) -> None:
    return None
