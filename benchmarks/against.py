"""Against procrastinate, pgqueuer, awa and celery, each in its best documented way for many jobs.

They live in an environment of their own: `make bench-peers` sets it up.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg

from benchmarks.measure import Rate, rate, show_ratio
from benchmarks.postgres import cluster
from benchmarks.servers import API_KEY, server
from benchmarks.tables import flights
from spooled_pipelines import connect
from spooled_pipelines.worker import Worker

_HERE = Path(__file__).parent
_PYTHON = _HERE / ".peers" / "bin" / "python"
_ENQUEUED, _WORKED = 100_000, 10_000
_WARM = 100


class _Peer(NamedTuple):
    """How it is run: settings are its program's, see benchmarks/peers."""

    name: str
    enqueue: tuple[int, ...]
    work: tuple[int, ...]
    how: str


_ON_POSTGRES = (
    _Peer("procrastinate", (1_000,), (16,), "batch_defer of 1,000; 16 async tasks in one process"),
    _Peer("pgqueuer", (1_000,), (100,), "enqueue of 1,000; batches of 100, uvloop, one process"),
    _Peer("awa", (1_000,), (64,), "insert_many_copy of 1,000; 64 at once, its engine in Rust"),
)
# Pool, processes, prefetch.
_CELERY = _Peer(
    "celery", (), (0, 2, 64), "one pooled connection; prefork of 2, acks late, redis in memory only"
)


def against() -> bool:
    """Bulk enqueue, and settled jobs a second with a handler that does nothing."""
    if not _PYTHON.exists():
        print("            not run: `make bench-peers` installs what it is measured against")
        return True
    with tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as folder:
        many, some = (_file(Path(folder), rows) for rows in (_ENQUEUED, _WORKED))
        sent: list[Rate] = []
        worked: list[Rate] = []
        with cluster() as url:
            for peer in _ON_POSTGRES:
                _measure(peer, _database(url, peer.name), many, some, sent, worked)
            with _redis() as broker:
                if broker is None:
                    print("            without celery: there is no redis-server on this machine")
                else:
                    _measure(_CELERY, broker, many, some, sent, worked)
            ours = _ours(_database(url, "spooled"))
    fastest = [max(rates, key=lambda rate: rate.per_second) for rates in (sent, worked)]
    kept = [
        show_ratio("the best of the others' bulk enqueue, jobs a second", 2, ours[0], fastest[0]),
        show_ratio("the best of the others' workers, jobs a second", 1.2, ours[1], fastest[1]),
    ]
    for other in (*sent, *worked):
        if other not in fastest:
            print(f"            {other}")
    return all(kept)


def _measure(
    peer: _Peer, url: str, many: Path, some: Path, sent: list[Rate], worked: list[Rate]
) -> None:
    if peer is not _CELERY:
        _run(peer, "prepare", url, some)
    what = f"{peer.name} ({peer.how})"
    # So that what is enqueued for the clock is not what the worker has to do.
    _run(peer, "enqueue", url, some, *peer.enqueue)
    worked.append(Rate(what, _WORKED, (_run(peer, "work", url, some, *peer.work),)))
    seconds = _run(peer, "enqueue", url, many, *peer.enqueue)
    sent.append(Rate(what, _ENQUEUED, (seconds,)))


def _run(peer: _Peer, what: str, url: str, rows: Path, *settings: int) -> float:
    command = [str(_PYTHON), "-m", f"benchmarks.peers.on_{peer.name}", what, url, str(rows)]
    command += map(str, settings)
    environment = {"BENCHMARK_BROKER": url, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, cwd=_HERE.parent, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    lines = done.stdout.splitlines()
    return float(json.loads(lines[-1])) if lines else 0.0


def _ours(url: str) -> tuple[Rate, Rate]:
    frame = flights(_ENQUEUED)
    # The last --store counts.
    with server("--store", url) as address, connect(address, api_key=API_KEY) as client:
        client.enqueue_batch(frame.head(_WARM), "warm")
        client.enqueue_batch(frame.head(_WORKED), "work")
        began = time.perf_counter()
        worker = Worker(address, "work", _nothing, api_key=API_KEY, stop_when_empty=True)
        report = worker.run()
        seconds = time.perf_counter() - began
        assert report.completed == _WORKED
        sent = rate(
            "enqueue_batch, PostgreSQL",
            _ENQUEUED,
            lambda run: client.enqueue_batch(frame, "sent", name=str(run)),
        )
    return sent, Rate("Worker, one process, its defaults, PostgreSQL", _WORKED, (seconds,))


def _nothing(_: object) -> None:
    return None


def _file(folder: Path, rows: int) -> Path:
    path = folder / f"{rows}.jsonl"
    flights(rows).to_json(path, orient="records", lines=True)
    return path


def _database(url: str, name: str) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return url.replace("/postgres?", f"/{name}?", 1)


@contextmanager
def _redis() -> Iterator[str | None]:
    """Yield the URL of a redis-server with its package's settings but no snapshots, else None."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            _await_port(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 10
    with socket.socket() as client:
        while client.connect_ex(("127.0.0.1", port)) != 0:
            if time.monotonic() > deadline:
                raise RuntimeError("redis-server did not start")
            time.sleep(0.05)
