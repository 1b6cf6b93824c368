"""What a job costs the server and PostgreSQL: the figures that `spooled-pipelines size` goes by.

Measured as CPU time of the processes themselves, so that what else the machine does matters little.
The model is then held to a run of its own: everything at once, through several servers.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import psutil
import psycopg

from benchmarks.postgres import cluster
from benchmarks.servers import API_KEY, server
from benchmarks.tables import flights
from spooled_pipelines import connect
from spooled_pipelines.cli.sizing import Costs
from spooled_pipelines.worker import Worker

_JOBS = 20_000
_REPLICAS = (1, 2, 3)
_WITHIN = 0.2


def costs(arguments: Sequence[str] = ()) -> bool:
    """Print the costs, hold the model to a combined run; write them to the file named, if any."""
    with cluster() as url, _servers(url, 1) as addresses:
        measured, _ = _measure(url, addresses)
    for name, value in asdict(measured).items():
        print(f"            {name:<22}{value:12,.1f}")
    if arguments:
        Path(arguments[0]).write_text(json.dumps(asdict(measured), indent=2) + "\n")
    kept = True
    for count in _REPLICAS:
        with cluster() as url, _servers(url, count) as addresses:
            kept &= _combined(url, addresses, measured)
    return kept


def _measure(url: str, addresses: list[str]) -> tuple[Costs, float]:
    frame = flights(_JOBS)
    payload = _payload_bytes(frame)
    before = _bytes(url), _wal(url)
    started = _cpu(url, addresses)
    with connect(",".join(addresses), api_key=API_KEY) as client:
        client.enqueue_batch(frame, "q")
        filled = _cpu(url, addresses)
        report = Worker(addresses[0], "q", _nothing, api_key=API_KEY, stop_when_empty=True).run()
        assert report.completed == _JOBS
        done = _cpu(url, addresses)
    made, written = _bytes(url) - before[0], _wal(url) - before[1]
    per_job = 1e6 / _JOBS
    memory = sum(process.memory_info().rss for process in _server_processes(addresses))
    return (
        Costs(
            server_enqueue_us=(filled[0] - started[0]) * per_job,
            server_work_us=(done[0] - filled[0]) * per_job,
            database_enqueue_us=(filled[1] - started[1]) * per_job,
            database_work_us=(done[1] - filled[1]) * per_job,
            job_bytes=max(made / _JOBS - payload, 0.0),
            wal_bytes=max(written / _JOBS - 2 * payload, 0.0),
            server_mib=memory / len(addresses) / (1 << 20),
        ),
        payload,
    )


def _combined(url: str, addresses: list[str], measured: Costs) -> bool:
    """Enqueue and work at the same time, and compare the CPU with what the model says."""
    frame = flights(_JOBS)
    everywhere = ",".join(addresses)
    worker = Worker(everywhere, "q", _nothing, api_key=API_KEY)
    started, began = _cpu(url, addresses), time.perf_counter()
    thread = threading.Thread(target=worker.run)
    thread.start()
    with connect(everywhere, api_key=API_KEY) as client:
        client.enqueue_batch(frame, "q", name="b").wait(timeout=600)
    worker.stop()
    thread.join()
    seconds = time.perf_counter() - began
    server_cpu, database_cpu = (
        after - before for after, before in zip(_cpu(url, addresses), started, strict=True)
    )
    said_server = (measured.server_enqueue_us + measured.server_work_us) * _JOBS / 1e6
    said_database = (measured.database_enqueue_us + measured.database_work_us) * _JOBS / 1e6
    kept = True
    for what, said, seen in (
        ("servers", said_server, server_cpu),
        ("database", said_database, database_cpu),
    ):
        off = seen / said - 1
        within = abs(off) <= _WITHIN
        kept &= within
        print(
            f"{off:+8.0%}    CPU of {what}, {len(addresses)} of them, against the model "
            f"(wanted: within {_WITHIN:.0%}{'' if within else ', MISSED'}): "
            f"{seen:.1f} s, the model says {said:.1f} s",
            flush=True,
        )
    print(f"            {_JOBS / seconds:,.0f} jobs/s enqueued and done, {len(addresses)} servers")
    return kept


@contextmanager
def _servers(url: str, count: int) -> Iterator[list[str]]:
    with ExitStack() as stack:
        yield [stack.enter_context(server("--store", url)) for _ in range(count)]


def _cpu(url: str, addresses: list[str]) -> tuple[float, float]:
    """CPU seconds so far: of our servers, and of PostgreSQL with all of its children."""
    servers = sum(sum(process.cpu_times()[:2]) for process in _server_processes(addresses))
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        postmaster = psutil.Process(row[0]).parent()
    assert postmaster is not None
    family = [postmaster, *postmaster.children(recursive=True)]
    # user, system, and both of the children that have ended.
    database = sum(sum(process.cpu_times()[:2]) for process in family)
    return servers, database + sum(postmaster.cpu_times()[2:4])


def _server_processes(addresses: list[str]) -> list[psutil.Process]:
    ports = {int(address.rpartition(":")[2]) for address in addresses}
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if any(
            one.status == psutil.CONN_LISTEN and one.laddr.port in ports
            for one in process.net_connections("tcp")
        )
    ]


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
    from spooled_pipelines.batch.prepare import Options, prepare

    with_pieces = prepare(frame, "q", Options())
    try:
        pieces = [piece for chunk in with_pieces.chunks() for piece in chunk.pieces.to_pylist()]
    finally:
        with_pieces.close()
    return sum(map(len, pieces)) / len(pieces)


def _nothing(_: object) -> None:
    return None
