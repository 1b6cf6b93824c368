"""Against procrastinate, pgqueuer, awa and celery, each in its best documented way for many jobs.

They live in an environment of their own: `make bench-peers` sets it up.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg

from benchmarks import cpu
from benchmarks.measure import Side, in_turns, show_ratio
from benchmarks.postgres import cluster
from benchmarks.servers import API_KEY, server
from benchmarks.tables import flights
from spooled_pipelines import connect

_HERE = Path(__file__).parent
PYTHON = _HERE / ".peers" / "bin" / "python"
_ENQUEUED, _WORKED, _WARM, _RUNS = 100_000, 60_000, 100, 3


class Peer(NamedTuple):
    """How it is run: settings are its program's, see benchmarks/peers."""

    name: str
    how: str
    enqueue: tuple[int, ...]
    work: tuple[int, ...]
    # So many are worked on that the start is little of it, and slow ones end.
    jobs: int = _WORKED


PROCRASTINATE = Peer(
    "procrastinate", "batch_defer of 1,000; 16 async tasks", (1_000,), (16,), 2_000
)
PGQUEUER = Peer("pgqueuer", "enqueue and batches of 1,000; asyncpg, uvloop", (1_000,), (1_000,))
AWA = Peer("awa", "insert_many_copy of 1,000; 64 at once, its engine in Rust", (1_000,), (64,))
# Pool, processes, prefetch.
_CELERY = Peer(
    "celery", "prefork of 2, acks late, redis in memory only", (), (0, 2, 64), jobs=10_000
)
OURS = Peer("spooled", "enqueue_batch; a Worker, its defaults, PostgreSQL", (), ())


class Took(NamedTuple):
    """Seconds, and those of the CPU of its program, of our server and of PostgreSQL."""

    seconds: float
    program: float
    server: float = 0.0
    database: float = 0.0


class _Contest:
    """A peer on its own database or broker, or our server at `address`."""

    def __init__(self, peer: Peer, url: str, folder: Path, address: str = "") -> None:
        self._peer = peer
        self._url = url
        self._folder = folder
        self._address = address
        self._took: list[Took] = []
        self.what = f"{peer.name} ({peer.how})"
        if peer not in (_CELERY, OURS):
            run_peer(peer, "prepare", url, rows_file(folder, _WARM))

    def enqueue(self, run: int, rows: int = _ENQUEUED, queue_name: str = "sent") -> float:
        """Return the seconds that it took to enqueue so many."""
        if not self._address:
            file = rows_file(self._folder, rows)
            return run_peer(self._peer, "enqueue", self._url, file).seconds
        frame = flights(rows)
        with connect(self._address, api_key=API_KEY) as client:
            client.enqueue_batch(frame.head(_WARM), "warm")
            began = time.perf_counter()
            client.enqueue_batch(frame, queue_name, name=f"{queue_name} {run}")
            return time.perf_counter() - began

    def work(self, run: int) -> float:
        """Return the seconds that a worker took for what was enqueued for it."""
        self.enqueue(run, self._peer.jobs, "work")
        file = rows_file(self._folder, self._peer.jobs)
        if self._peer is _CELERY:
            return run_peer(self._peer, "work", self._url, file).seconds
        addresses = [self._address] if self._address else []
        before = cpu.used(self._url, addresses)
        took = run_peer(self._peer, "work", self._address or self._url, file)
        used = cpu.used(self._url, addresses).since(before)
        self._took.append(took._replace(server=sum(used.servers), database=used.database))
        return took.seconds

    def enqueues(self) -> Side:
        return Side(self.what, _ENQUEUED, self.enqueue)

    def works(self) -> Side:
        return Side(self.what, self._peer.jobs, self.work)

    def cpu(self) -> str:
        """Return what a job took of the CPU, by processes, in the median of the runs."""
        if not self._took:
            return ""
        columns = zip(*(took[1:] for took in self._took), strict=True)
        worker, of_server, database = (
            1e6 * statistics.median(column) / self._peer.jobs for column in columns
        )
        return (
            f"            {self._peer.name}: {worker:.0f} us of the worker's CPU a job, "
            f"{of_server:.0f} of the server's, {database:.0f} of PostgreSQL's"
        )


def against() -> bool:
    """Bulk enqueue, and settled jobs a second with a handler that reads its payload."""
    if not PYTHON.exists():
        print("            not run: `make bench-peers` installs what it is measured against")
        return True
    with (
        tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as name,
        cluster() as url,
        _redis() as broker,
    ):
        folder = Path(name)
        peers = [
            _Contest(peer, database(url, peer.name), folder)
            for peer in (PROCRASTINATE, AWA, PGQUEUER)
        ]
        if broker is None:
            print("            without celery: there is no redis-server on this machine")
        else:
            peers.append(_Contest(_CELERY, broker, folder))
        ours_url = database(url, "spooled")
        # The last --store counts.
        with server("--store", ours_url) as address:
            ours = _Contest(OURS, ours_url, folder, address)
            kept = [
                # What is enqueued for the clock comes last: a worker would find it.
                _compared(1.2, "workers", ours.works(), [peer.works() for peer in peers]),
                _compared(2, "bulk enqueue", ours.enqueues(), [peer.enqueues() for peer in peers]),
            ]
        for contest in (ours, *peers):
            print(contest.cpu())
        print(f"            load average {os.getloadavg()[0]:.1f}", flush=True)
    return all(kept)


def _compared(wanted: float, what: str, ours: Side, others: list[Side]) -> bool:
    """Measure each of the others once, then the best of them and ours in turns."""
    once = [in_turns(side, runs=1)[0] for side in others]
    best = others[once.index(max(once, key=lambda one: one.per_second))]
    rates = in_turns(best, ours, runs=_RUNS)
    kept = show_ratio(f"the best of the others' {what}, jobs a second", wanted, rates[1], rates[0])
    for other in once:
        if other.what != best.what:
            print(f"            {other}", flush=True)
    return kept


def run_peer(
    peer: Peer, what: str, url: str, rows: Path, on_line: Callable[[str], bool] = bool
) -> Took:
    """Run a peer's program to its end, or until `on_line` says that a line is enough."""
    python = sys.executable if peer is OURS else str(PYTHON)
    settings = {"enqueue": peer.enqueue, "work": peer.work}.get(what, ())
    command = [python, "-m", f"benchmarks.peers.on_{peer.name}", what, url, str(rows)]
    command += map(str, settings)
    environment = {**os.environ, "BENCHMARK_BROKER": url}
    line = ""
    with subprocess.Popen(
        command, cwd=_HERE.parent, env=environment, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        for line in program.stdout:
            if not on_line(line):
                program.kill()
                return Took(0.0, 0.0)
    if program.returncode:
        raise RuntimeError(f"{peer.name} ended with {program.returncode}")
    return Took(*json.loads(line)) if line else Took(0.0, 0.0)


def rows_file(folder: Path, rows: int) -> Path:
    """Return a file with a JSON object on each line, made where it is not there."""
    path = folder / f"{rows}.jsonl"
    if not path.exists():
        flights(rows).to_json(path, orient="records", lines=True)
    return path


def database(url: str, name: str) -> str:
    """Return the URL of a new database of the cluster."""
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
