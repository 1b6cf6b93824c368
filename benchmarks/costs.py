"""What a job costs the server and PostgreSQL: the figures that `benchmarks.sizing` uses.

Measured as CPU time of the processes themselves, so that what else the machine does matters little.
The model is then held to a run of its own: everything at once, through several servers.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks import cpu
from benchmarks.postgres import cluster
from benchmarks.servers import API_KEY, server
from benchmarks.sizing import Costs
from benchmarks.tables import flights
from spooled_pipelines import connect
from spooled_pipelines.worker import Worker

if TYPE_CHECKING:
    import pandas as pd

_JOBS = 20_000
# Those that a worker does one by one.
_FEW = 1_000
_REPLICAS = (1, 2, 3)
_WITHIN = 0.2


def costs(arguments: Sequence[str] = ()) -> bool:
    """Print the costs, hold the model to a combined run; write them to the file named, if any."""
    measured = _measured()
    for name, value in asdict(measured).items():
        print(f"            {name:<22}{value:12,.1f}", flush=True)
    if arguments:
        Path(arguments[0]).write_text(json.dumps(asdict(measured), indent=2) + "\n")
    kept = True
    for count in _REPLICAS:
        with cluster() as url, _servers(url, count) as addresses:
            kept &= _combined(url, addresses, measured)
    return kept


def _measured() -> Costs:
    """Everything goes through the first of two servers; the second only hears of it."""
    frame = flights(_JOBS)
    payload = _payload_bytes(frame)
    with cluster() as url, _servers(url, 2) as addresses:
        # Connections, prepared statements and caches are there before anything is measured.
        _enqueue(addresses[0], flights(_FEW))
        _work(addresses[0], _FEW, _nothing)
        size, log, started = _bytes(url), _wal(url), cpu.used(url, addresses)
        _enqueue(addresses[0], frame)
        filled = cpu.used(url, addresses)
        _work(addresses[0], _JOBS, _nothing)
        done = cpu.used(url, addresses)
        made, written = _bytes(url) - size, _wal(url) - log
        _enqueue(addresses[0], flights(_FEW))
        again = cpu.used(url, addresses)
        _work(addresses[0], _FEW, _slowly, concurrency=1)
        single = cpu.used(url, addresses).since(again)
        memory = max(one.memory_info().rss for one in cpu.server_processes(addresses))
    enqueued, worked = filled.since(started), done.since(filled)
    server = _per_job_and_call(
        (_JOBS, worked.transactions, worked.servers[0]),
        (_FEW, single.transactions, single.servers[0]),
    )
    database = _per_job_and_call(
        (_JOBS, worked.transactions, worked.database),
        (_FEW, single.transactions, single.database),
    )
    print(
        f"            {_JOBS / worked.transactions * 2:.1f} jobs a call where they take no time, "
        f"{_FEW / single.transactions * 2:.1f} where each takes 10 ms"
    )
    return Costs(
        server_enqueue_us=enqueued.servers[0] / _JOBS * 1e6,
        server_work_us=server[0] * 1e6,
        server_call_us=server[1] * 1e6,
        server_notice_us=worked.servers[1] / _JOBS * 1e6,
        database_enqueue_us=enqueued.database / _JOBS * 1e6,
        database_work_us=database[0] * 1e6,
        database_call_us=database[1] * 1e6,
        job_bytes=max(made / _JOBS - payload, 0.0),
        wal_bytes=max(written / _JOBS - 2 * payload, 0.0),
        server_mib=memory / (1 << 20),
    )


def _per_job_and_call(
    many: tuple[int, int, float], single: tuple[int, int, float]
) -> tuple[float, float]:
    """Seconds of CPU for a job and for a call, from two runs with other numbers of jobs a call."""
    (jobs, calls, seconds), (few, each, long) = many, single
    call = (long * jobs - seconds * few) / (each * jobs - calls * few)
    return (seconds - call * calls) / jobs, call


def _enqueue(address: str, frame: pd.DataFrame) -> None:
    with connect(address, api_key=API_KEY) as client:
        # A name of its own: the same rows are other jobs.
        client.enqueue_batch(frame, "q", name=secrets.token_hex(4))


def _work(address: str, jobs: int, handler: Callable[[Any], None], **options: Any) -> None:
    worker = Worker(address, "q", handler, api_key=API_KEY, stop_when_empty=True, **options)
    assert worker.run().completed == jobs


def _combined(url: str, addresses: list[str], measured: Costs) -> bool:
    """Enqueue and work at the same time, and compare the CPU with what the model says."""
    frame = flights(_JOBS)
    everywhere = ",".join(addresses)
    worker = Worker(everywhere, "q", _nothing, api_key=API_KEY)
    before, began = cpu.used(url, addresses), time.perf_counter()
    thread = threading.Thread(target=worker.run)
    thread.start()
    with connect(everywhere, api_key=API_KEY) as client:
        client.enqueue_batch(frame, "q", name="b").wait(timeout=600)
    worker.stop()
    thread.join()
    seconds = time.perf_counter() - began
    used = cpu.used(url, addresses).since(before)
    jobs_per_call = 2 * _JOBS / used.transactions
    heard = (len(addresses) - 1) * measured.server_notice_us
    kept = True
    for what, each, seen in (
        ("servers", measured.server_us(jobs_per_call) + heard, sum(used.servers)),
        ("database", measured.database_us(jobs_per_call), used.database),
    ):
        said = each * _JOBS / 1e6
        off = said / seen - 1
        within = abs(off) <= _WITHIN
        kept &= within
        print(
            f"{off:+8.0%}    what the model says of the CPU of {what}, {len(addresses)} of them "
            f"(wanted: within {_WITHIN:.0%}{'' if within else ', MISSED'}): "
            f"{said:.2f} s, measured {seen:.2f} s",
            flush=True,
        )
    print(
        f"            {_JOBS / seconds:,.0f} jobs/s enqueued and done, {len(addresses)} servers, "
        f"{jobs_per_call:.1f} jobs a call; {sum(used.servers) / _JOBS * 1e6:,.0f} us of servers "
        f"and {used.database / _JOBS * 1e6:,.0f} us of PostgreSQL a job",
        flush=True,
    )
    return kept


@contextmanager
def _servers(url: str, count: int) -> Iterator[list[str]]:
    with ExitStack() as stack:
        yield [stack.enter_context(server("--store", url)) for _ in range(count)]


def _bytes(url: str) -> int:
    return _number(
        url,
        "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n "
        "ON n.oid = c.relnamespace WHERE n.nspname = 'spooled' AND c.relkind = 'r'",
    )


def _wal(url: str) -> int:
    return _number(url, "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")


def _number(url: str, query: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def _payload_bytes(frame: object) -> float:
    from spooled_pipelines.batch.options.row_options import RowOptions
    from spooled_pipelines.batch.staging.prepare import prepare

    staged = prepare(frame, "q", RowOptions())
    try:
        rows = [row for chunk in staged.chunks() for row in chunk.encoded_rows.to_pylist()]
    finally:
        staged.close()
    return sum(map(len, rows)) / len(rows)


def _nothing(_: object) -> None:
    return None


def _slowly(_: object) -> None:
    """So that each job is settled before the next one is done."""
    time.sleep(0.01)
