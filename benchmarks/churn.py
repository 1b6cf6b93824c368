"""Disk space on PostgreSQL while jobs come, are worked on and pruned: an hour of a million jobs.

    python -m benchmarks churn [--minutes 60] [--jobs 1000000] [--sizes-every 10] [--keep 2m]

Batches of a thousand go into one queue at one rate, two workers settle them, and what has settled
is pruned after `--keep`. Printed every ten minutes: jobs, sizes, dead rows, the share of HOT
updates. Wanted: tables and indexes at the end, against those after the first sixth.
"""

from __future__ import annotations

import argparse
import itertools
import threading
import time
from typing import Any, NamedTuple

import psycopg

from benchmarks.measure import show
from benchmarks.postgres import cluster
from benchmarks.servers import API_KEY, server
from benchmarks.soak import ROWS, table_of_rows, workers
from spooled_pipelines import connect

_QUEUE = "soak"
_GROWTH = 1.2
_SIZES = b"""
SELECT pg_table_size('spooled.jobs'), pg_indexes_size('spooled.jobs'),
    (SELECT sum(pg_total_relation_size(oid)) FROM pg_class
        WHERE relnamespace = 'spooled'::regnamespace AND relkind = 'r')::int8,
    n_live_tup, n_dead_tup, 100.0 * n_tup_hot_upd / greatest(n_tup_upd, 1), autovacuum_count
FROM pg_stat_user_tables WHERE relid = 'spooled.jobs'::regclass
"""
_INDEXES = b"""
SELECT c.relname, pg_relation_size(c.oid), s.idx_scan
FROM pg_class c JOIN pg_stat_user_indexes s ON s.indexrelid = c.oid
WHERE s.relid = 'spooled.jobs'::regclass ORDER BY 2 DESC, 1
"""


class _Sizes(NamedTuple):
    table: int
    indexes: int
    store: int
    rows: int
    dead: int
    hot: float
    vacuums: int


def churn(arguments: list[str]) -> bool:
    """Return whether tables and indexes stay as they are after a sixth of the time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks churn")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--sizes-every", type=float, default=10.0, metavar="MINUTES")
    parser.add_argument("--keep", default="2m", help="how long settled jobs are kept")
    options = parser.parse_args(arguments)
    keep = options.keep
    kept = ("--keep-settled", keep, "--keep-keys", keep, "--keep-batches", keep)
    with (
        cluster() as url,
        server("--store", url, *kept, "--keep-dead-letters", keep) as address,
        workers(address) as settled,
        psycopg.connect(url, autocommit=True) as watching,
    ):
        sender = threading.Thread(
            target=_send, args=(address, options.jobs, options.minutes * 60), daemon=True
        )
        sizes = _watch(watching, sender, settled, options)
        for name, size, scans in watching.execute(_INDEXES):
            print(f"            {name}: {size / 1e6:,.1f} MB, used {scans:,} times")
    first, last = sizes[0], sizes[-1]
    return show(
        f"tables and indexes after {options.jobs:,} jobs, against those after the first of "
        f"{len(sizes)} parts",
        last.store / first.store,
        at_most=_GROWTH,
    )


def _watch(
    watching: psycopg.Connection[Any], sender: threading.Thread, settled: Any, options: Any
) -> list[_Sizes]:
    head = f"{'minute':>8} {'settled':>10} {'jobs in it':>11} {'dead rows':>10} {'table MB':>9}"
    print(f"{head} {'indexes MB':>11} {'store MB':>9} {'HOT %':>6} {'vacuums':>8}", flush=True)
    began = time.monotonic()
    sender.start()
    sizes = []
    for minute in itertools.count(1):
        moment = min(minute * options.sizes_every, options.minutes)
        time.sleep(max(0.0, began + moment * 60 - time.monotonic()))
        if moment >= options.minutes:
            sender.join()
        row = watching.execute(_SIZES).fetchone()
        assert row is not None
        now = _Sizes(*row)
        print(
            f"{moment:>8g} {settled.value:>10,} {now.rows:>11,} {now.dead:>10,} "
            f"{now.table / 1e6:>9,.1f} {now.indexes / 1e6:>11,.1f} {now.store / 1e6:>9,.1f} "
            f"{now.hot:>6.1f} {now.vacuums:>8,}",
            flush=True,
        )
        sizes.append(now)
        if moment >= options.minutes:
            return sizes
    raise AssertionError("itertools.count ended")


def _send(address: str, jobs: int, seconds: float) -> None:
    began = time.monotonic()
    with connect(address, api_key=API_KEY) as client:
        for number in range(jobs // ROWS):
            due = began + number * ROWS / jobs * seconds
            time.sleep(max(0.0, due - time.monotonic()))
            client.enqueue_batch(table_of_rows(), _QUEUE, name=f"churn-{number}")
