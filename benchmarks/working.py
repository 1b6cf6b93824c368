"""Jobs a second that one worker process settles, with a handler that does nothing."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext

from benchmarks.measure import Rate
from benchmarks.postgres import cluster
from benchmarks.servers import API_KEY, server
from benchmarks.tables import flights
from spooled_pipelines import connect
from spooled_pipelines.worker import Worker

_JOBS = 20_000


def working() -> bool:
    """Both stores, the worker's defaults: a figure to watch, without a promise."""
    for kind in ("SQLite", "PostgreSQL"):
        with nullcontext(None) if kind == "SQLite" else cluster() as url:
            arguments = () if url is None else ("--store", url)
            with server(*arguments) as address, connect(address, api_key=API_KEY) as client:
                client.enqueue_batch(flights(_JOBS), "q")
                worker = Worker(address, "q", _nothing, api_key=API_KEY, stop_when_empty=True)
                began = time.perf_counter()
                report = worker.run()
                seconds = time.perf_counter() - began
                assert report.completed == _JOBS
        print(f"            {Rate(f'one worker process, {kind}', _JOBS, (seconds,))}")
    print(f"            load average {os.getloadavg()[0]:.1f}", flush=True)
    return True


def _nothing(_: object) -> None:
    return None
