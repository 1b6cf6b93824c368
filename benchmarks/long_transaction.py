"""Workers on PostgreSQL while somebody else's transaction keeps every dead row.

    python -m benchmarks long-transaction [--jobs 300000] [--without]

`BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1` stays open from before the first claim to after
the last. Printed by tenths of the run: jobs a second, dead rows, sizes, the share of HOT updates.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from contextlib import ExitStack
from typing import Any, NamedTuple

import psycopg

from benchmarks.measure import show
from benchmarks.postgres import cluster
from benchmarks.servers import API_KEY, server
from benchmarks.tables import flights
from spooled_pipelines import Job, connect
from spooled_pipelines.worker import Worker

_QUEUE, _WORKERS, _TENTHS = "q", 2, 10
_CHUNK = 50_000
_WANTED = 0.8
_LOOK_SECONDS = 0.02
_SIZES = b"""
SELECT n_dead_tup, pg_table_size(relid), pg_indexes_size(relid),
    100.0 * n_tup_hot_upd / greatest(n_tup_upd, 1)
FROM pg_stat_user_tables WHERE relid = 'spooled.jobs'::regclass
"""


class _Tenth(NamedTuple):
    per_second: float
    dead: int
    table: int
    indexes: int
    hot: float


def long_transaction(arguments: list[str]) -> bool:
    """Return whether the last tenth is nearly as fast as the first."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks long-transaction")
    parser.add_argument("--jobs", type=int, default=300_000)
    parser.add_argument("--without", action="store_true", help="no transaction stays open")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        url = stack.enter_context(cluster())
        address = stack.enter_context(server("--store", url))
        with connect(address, api_key=API_KEY) as client:
            for first in range(0, options.jobs, _CHUNK):
                rows = flights(min(_CHUNK, options.jobs - first), first)
                client.enqueue_batch(rows, _QUEUE, name=f"from {first}")
        watching = stack.enter_context(psycopg.connect(url, autocommit=True))
        watching.execute("VACUUM ANALYZE spooled.jobs")
        if not options.without:
            other = stack.enter_context(psycopg.connect(url, autocommit=True))
            other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        tenths = _tenths(address, watching, options.jobs)
    return show(
        f"claims a second of the last tenth of {options.jobs:,} jobs, against the first",
        tenths[-1].per_second / tenths[0].per_second,
        at_least=_WANTED,
    )


def _tenths(address: str, watching: psycopg.Connection[Any], jobs: int) -> list[_Tenth]:
    """Let two workers settle all jobs; print how it went by tenths, as it goes."""
    head = f"{'tenth':>8} {'jobs/s':>8} {'dead rows':>10} {'table MB':>9}"
    print(f"{head} {'indexes MB':>11} {'HOT %':>6}")
    context = multiprocessing.get_context("spawn")
    counts = [context.Value("q", 0) for _ in range(_WORKERS)]
    workers = [
        context.Process(target=_work, args=(address, count), daemon=True) for count in counts
    ]
    for worker in workers:
        worker.start()
    done = _await(counts, 1)
    began, tenths = time.perf_counter(), []
    for number in range(1, _TENTHS + 1):
        before, done = done, _await(counts, jobs * number // _TENTHS)
        now = time.perf_counter()
        row = watching.execute(_SIZES).fetchone()
        assert row is not None
        tenth = _Tenth((done - before) / (now - began), *row)
        print(
            f"{number:>8} {tenth.per_second:>8,.0f} {tenth.dead:>10,} {tenth.table / 1e6:>9,.1f} "
            f"{tenth.indexes / 1e6:>11,.1f} {tenth.hot:>6.1f}",
            flush=True,
        )
        began = now
        tenths.append(tenth)
    for worker in workers:
        worker.join()
    return tenths


def _await(counts: list[Any], wanted: int) -> int:
    """Return how many jobs are settled, as soon as it is so many."""
    while (done := sum(int(count.value) for count in counts)) < wanted:
        time.sleep(_LOOK_SECONDS)
    return done


def _work(address: str, settled: Any) -> None:
    def count(_: object) -> None:
        settled.value += 1

    Worker(address, _QUEUE, _nothing, api_key=API_KEY, stop_when_empty=True, on_settled=count).run()


def _nothing(_: Job) -> None:
    return None
