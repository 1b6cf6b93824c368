"""Half of the full load for a long time, with everything that is old pruned.

    python -m benchmarks soak [--minutes 30] [--store sqlite|postgresql]

Batches go in, workers settle their jobs (some die), what settled is forgotten. Printed each
minute: what was done, the server's memory, the store's size. Ends with status 1 if either grows.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # it brings no types
import psycopg

from benchmarks.postgres import cluster
from benchmarks.servers import API_KEY, server
from spooled_pipelines import connect
from spooled_pipelines.worker import Discard, Worker

_QUEUE = "soak"
ROWS = 1_000
# Everything that a server has to remember is as much after two of these as after a thousand.
_KEEPING = (
    *("--keep-settled", "10s"),
    *("--keep-keys", "20s"),
    *("--keep-batches", "30s"),
    *("--keep-dead-letters", "30s"),
)
_FULL_SECONDS = 20.0
_SAMPLE_SECONDS = 5.0
# Until as much goes as comes in: what is kept longest, and how late a sweep may be, and a reserve.
_SETTLING_SECONDS = 150.0
_GROWTH = 1.10
_RESERVE_BYTES = 16 << 20
_WORKERS = 2
_DEAD_EACH = 500


@dataclass
class Samples:
    """What the server took at some moments, in seconds since the beginning and in bytes."""

    moments: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    size: list[int] = field(default_factory=list)

    def add(self, moment: float, memory: int, size: int) -> None:
        self.moments.append(moment)
        self.memory.append(memory)
        self.size.append(size)


def soak(arguments: list[str]) -> bool:
    """Return whether neither memory nor size grows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks soak")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--store", choices=("sqlite", "postgresql"))
    options = parser.parse_args(arguments)
    stores = [options.store] if options.store else ["sqlite", "postgresql"]
    places = {"sqlite": _sqlite, "postgresql": _postgresql}
    flat = []
    for name in stores:
        print(f"\n{name}")
        with places[name]() as (url, size), server("--store", url, *_KEEPING) as address:
            flat.append(_run(address, size, options.minutes))
    return all(flat)


def _run(address: str, size: Callable[[], int], minutes: float) -> bool:
    with workers(address) as settled:
        full = _full_load(address, settled)
        print(f"full load: {full:,.0f} jobs/s from a table to settled; now half of it")
        samples = _half_load(address, settled, size, full / 2, minutes)
    kept = [_is_flat("memory", samples.moments, samples.memory)]
    kept.append(_is_flat("size", samples.moments, samples.size))
    return all(kept)


def _full_load(address: str, settled: Any) -> float:
    """Jobs a second with batches sent as fast as workers take them."""
    with connect(address, api_key=API_KEY) as client:
        began, before = time.monotonic(), settled.value
        for number in itertools.count():
            client.enqueue_batch(table_of_rows(), _QUEUE, name=f"full-{number}-{began}")
            # Two batches ahead of the workers, so that they never wait.
            while client.queue_stats(_QUEUE).pending > 2 * ROWS:
                time.sleep(0.01)
            seconds = time.monotonic() - began
            if seconds > _FULL_SECONDS:
                return float(settled.value - before) / seconds
    raise AssertionError("itertools.count ended")


def _half_load(
    address: str, settled: Any, size: Callable[[], int], rate: float, minutes: float
) -> Samples:
    process = _server_process(address)
    samples = Samples()
    over = threading.Event()
    began = time.monotonic()
    sender = threading.Thread(target=_send, args=(address, rate, over), daemon=True)
    sender.start()
    print(f"{'minute':>8} {'settled/s':>10} {'memory MB':>10} {'store MB':>10} {'open':>8}")
    before, minute = settled.value, 1
    with connect(address, api_key=API_KEY) as client:
        while minute <= max(1, minutes):
            now = time.monotonic() - began
            samples.add(now, process.memory_info().rss, size())
            if now >= minute * 60:
                done, before = settled.value - before, settled.value
                stats = client.queue_stats(_QUEUE)
                memory, stored = samples.memory[-1] / 1e6, samples.size[-1] / 1e6
                open_jobs = stats.pending + stats.processing
                print(
                    f"{minute:>8} {done / 60:>10,.0f} {memory:>10,.1f} {stored:>10,.1f} "
                    f"{open_jobs:>8,}",
                    flush=True,
                )
                minute += 1
            time.sleep(_SAMPLE_SECONDS)
    over.set()
    sender.join()
    return samples


def _is_flat(what: str, moments: list[float], values: list[int]) -> bool:
    """Whether the most of the last third is no more than that of the first, once it has settled."""
    steady = [v for moment, v in zip(moments, values, strict=True) if moment >= _SETTLING_SECONDS]
    third = len(steady) // 3
    if third < 3:
        print(f"            {what}: too short to say; it takes 5 minutes at least")
        return True
    first, last = max(steady[:third]), max(steady[-third:])
    flat = last <= first * _GROWTH + _RESERVE_BYTES
    verdict = "flat" if flat else "GROWS"
    print(
        f"            {what}: {verdict}; at most {first / 1e6:,.1f} MB, then {last / 1e6:,.1f} MB"
    )
    return flat


def _send(address: str, rate: float, over: threading.Event) -> None:
    began = time.monotonic()
    with connect(address, api_key=API_KEY) as client:
        for number in itertools.count():
            due = began + number * ROWS / rate
            if over.wait(max(0.0, due - time.monotonic())):
                return
            client.enqueue_batch(table_of_rows(), _QUEUE, name=f"half-{number}-{began}")


def table_of_rows() -> list[dict[str, object]]:
    return [{"n": n, "text": "x" * 200, "ratio": n / 7} for n in range(ROWS)]


@contextmanager
def workers(address: str) -> Iterator[Any]:
    """Worker processes; yields how many jobs they settled."""
    context = multiprocessing.get_context("spawn")
    settled = context.Value("q", 0)
    stop = context.Event()
    processes = [
        context.Process(target=_work, args=(address, settled, stop), daemon=True)
        for _ in range(_WORKERS)
    ]
    for process in processes:
        process.start()
    try:
        yield settled
    finally:
        stop.set()
        for process in processes:
            process.join()


def _work(address: str, settled: Any, stop: Any) -> None:
    def handler(job: Any) -> dict[str, object]:
        if job.payload["n"] % _DEAD_EACH == 0:
            raise Discard("one of those that never work")
        return {"n": job.payload["n"], "text": "y" * 50}

    def count(_: object) -> None:
        with settled.get_lock():
            settled.value += 1

    with (
        connect(address, api_key=API_KEY) as client,
        Worker(client, _QUEUE, handler, concurrency=4, on_settled=count),
    ):
        stop.wait()


def _server_process(address: str) -> psutil.Process:
    port = int(address.rpartition(":")[2])
    for child in psutil.Process().children():
        if any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            for connection in child.net_connections("tcp")
        ):
            return child
    raise RuntimeError(f"no process of ours listens on {address}")


@contextmanager
def _sqlite() -> Iterator[tuple[str, Callable[[], int]]]:
    with tempfile.TemporaryDirectory(prefix="spooled-soak-") as folder:
        path = Path(folder) / "jobs.db"

        def size() -> int:
            return sum(file.stat().st_size for file in path.parent.glob("jobs.db*"))

        yield f"sqlite:///{path}", size


@contextmanager
def _postgresql() -> Iterator[tuple[str, Callable[[], int]]]:
    with cluster() as url:

        def size() -> int:
            with psycopg.connect(url) as connection:
                row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
            return int(row[0]) if row else 0

        yield url, size
