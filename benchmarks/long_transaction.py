"""Workers on PostgreSQL while somebody else's transaction keeps every dead row.

    python -m benchmarks long-transaction [--jobs 300000] [--without] [--beside] [--seconds 600]

`BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1` stays open from before the first claim to after
the last. Printed by tenths of the run: jobs a second, dead rows, sizes, the share of HOT updates.
With `--beside`, then the same of the peers of `make bench-peers`, each for so long at most.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psycopg

from benchmarks.against import (
    AWA,
    OURS,
    PGQUEUER,
    PROCRASTINATE,
    PYTHON,
    Peer,
    database,
    rows_file,
    run_peer,
)
from benchmarks.measure import show
from benchmarks.postgres import cluster
from benchmarks.servers import API_KEY, server
from benchmarks.tables import flights
from spooled_pipelines import connect

_CHUNK, _TENTHS = 50_000, 10
_WANTED = 0.8
# What others do not get through in the time is enqueued all the same.
_COUNTED = {PROCRASTINATE: 10_000}
# Of all tables: some peers move jobs from one to another.
_SIZES = b"""
SELECT sum(n_dead_tup)::int8, sum(pg_table_size(relid))::int8, sum(pg_indexes_size(relid))::int8,
    (100.0 * sum(n_tup_hot_upd) / greatest(sum(n_tup_upd), 1))::float8
FROM pg_stat_user_tables
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
    parser.add_argument("--beside", action="store_true", help="the peers as well")
    parser.add_argument("--seconds", type=float, default=600, help="for each at most")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as folder, cluster() as url:
        tenths = _of(OURS, url, Path(folder), options)
        if options.beside and PYTHON.exists():
            for peer in (PGQUEUER, AWA, PROCRASTINATE):
                _of(peer, url, Path(folder), options)
    return show(
        f"claims a second of the last tenth of {options.jobs:,} jobs, against the first",
        tenths[-1].per_second / tenths[0].per_second if len(tenths) > 1 else 0.0,
        at_least=_WANTED,
    )


def _of(peer: Peer, url: str, folder: Path, options: argparse.Namespace) -> list[_Tenth]:
    """Print how it goes by tenths of the jobs, or of as many as a slow peer can."""
    its = database(url, peer.name)
    # All are there: what is slow has them to look through.
    enqueued = rows_file(folder, options.jobs)
    counted = rows_file(folder, min(options.jobs, _COUNTED.get(peer, options.jobs)))
    if peer is not OURS:
        run_peer(peer, "prepare", its, enqueued)
        run_peer(peer, "enqueue", its, enqueued)
        return _worked(peer, its, its, counted, options)
    with server("--store", its) as address:
        with connect(address, api_key=API_KEY) as client:
            for first in range(0, options.jobs, _CHUNK):
                rows = flights(min(_CHUNK, options.jobs - first), first)
                client.enqueue_batch(rows, "work", name=f"from {first}")
        return _worked(peer, its, address, counted, options)


def _worked(
    peer: Peer, url: str, where: str, counted: Path, options: argparse.Namespace
) -> list[_Tenth]:
    load = os.getloadavg()[0]
    print(f"{peer.name}, load average {load:.1f}: {peer.how}")
    head = f"{'jobs':>9} {'jobs/s':>8} {'dead rows':>10} {'tables MB':>9}"
    print(f"{head} {'indexes MB':>11} {'HOT %':>6}", flush=True)
    tenths: list[_Tenth] = []
    last = (0, 0.0)
    with (
        psycopg.connect(url, autocommit=True) as watching,
        psycopg.connect(url, autocommit=True) as other,
    ):
        watching.execute("VACUUM ANALYZE")
        if not options.without:
            other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        ends_at = time.monotonic() + options.seconds

        def on_line(line: str) -> bool:
            nonlocal last
            done, seconds = json.loads(line)
            if isinstance(done, int):
                row = watching.execute(_SIZES).fetchone()
                assert row is not None
                tenth = _Tenth((done - last[0]) / (seconds - last[1]), *row)
                print(
                    f"{done:>9,} {tenth.per_second:>8,.0f} {tenth.dead:>10,} "
                    f"{tenth.table / 1e6:>9,.1f} {tenth.indexes / 1e6:>11,.1f} {tenth.hot:>6.1f}",
                    flush=True,
                )
                last = done, seconds
                tenths.append(tenth)
            is_all = peer in _COUNTED and len(tenths) == _TENTHS
            return not is_all and time.monotonic() < ends_at

        run_peer(peer, "work", where, counted, on_line)
    return tenths
