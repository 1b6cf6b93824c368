"""From the commit of a job to a worker that waits for it; and what waiting costs."""

from __future__ import annotations

import statistics
import threading
import time
from contextlib import ExitStack, nullcontext

import psutil

from benchmarks.postgres import cluster
from benchmarks.servers import API_KEY, server
from spooled_pipelines import SpooledClient, connect

_JOBS = 500
_PAUSE_SECONDS = 0.005
_STREAMS = 100
_IDLE_SECONDS = 10.0
_IDLE_PERCENT = 1.0


def latency() -> bool:
    """Both stores, one stream each; then SQLite with a hundred idle streams."""
    for kind in ("SQLite", "PostgreSQL"):
        with nullcontext(None) if kind == "SQLite" else cluster() as url:
            arguments = () if url is None else ("--store", url)
            with server(*arguments) as address, connect(address, api_key=API_KEY) as client:
                _deliver(kind, client)
    return _idle()


def _deliver(kind: str, client: SpooledClient) -> None:
    """Each job is enqueued when the one before has come: the server is idle in between."""
    seconds = []
    with client.stream_jobs("q", "w") as jobs:
        for number in range(_JOBS):
            began = time.perf_counter()
            sender = threading.Thread(target=client.enqueue, args=("q", {"number": number}))
            sender.start()
            job = next(jobs)
            seconds.append(time.perf_counter() - began)
            sender.join()
            client.complete(job)
            time.sleep(_PAUSE_SECONDS)
    quantiles = statistics.quantiles(seconds, n=100)
    print(
        f"{1e3 * statistics.median(seconds):8.2f} ms {kind}: from the call of Enqueue to the job "
        f"at a stream that waits, median of {_JOBS:,}; p99 {1e3 * quantiles[98]:.2f} ms\n"
        "            both over the wire, with the commit of the job and of its claim in between",
        flush=True,
    )


def _idle() -> bool:
    with server() as address, ExitStack() as stack:
        clients = [stack.enter_context(connect(address, api_key=API_KEY)) for _ in range(4)]
        process = _listener(address)
        for number in range(_STREAMS):
            jobs = clients[number % len(clients)].stream_jobs(f"q{number % 10}", f"w{number}")
            threading.Thread(target=lambda jobs=jobs: next(jobs, None), daemon=True).start()
            stack.callback(jobs.close)
        time.sleep(2)
        before = sum(process.cpu_times()[:2])
        time.sleep(_IDLE_SECONDS)
        percent = 100 * (sum(process.cpu_times()[:2]) - before) / _IDLE_SECONDS
    kept: bool = percent < _IDLE_PERCENT
    print(
        f"{percent:8.2f} %  of a core: an idle server with {_STREAMS} open streams "
        f"(wanted: under {_IDLE_PERCENT:g} %{'' if kept else ', MISSED'})",
        flush=True,
    )
    return kept


def _listener(address: str) -> psutil.Process:
    port = int(address.rpartition(":")[2])
    for child in psutil.Process().children(recursive=True):
        if any(one.laddr.port == port for one in child.net_connections(kind="tcp") if one.laddr):
            return child
    raise RuntimeError(f"no process of ours listens on {address}")
