"""What turns do for small batches beside a large one, and what a claim of many batches costs."""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import tempfile
import threading
import time
from contextlib import nullcontext
from pathlib import Path

from benchmarks.measure import show
from benchmarks.postgres import cluster
from benchmarks.servers import API_KEY, server
from benchmarks.tables import flights
from spooled_pipelines import Job, SpooledClient, connect
from spooled_pipelines.server.core.batches.records import BatchOpening, Chunk
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.requests import ClaimRequest
from spooled_pipelines.worker import Worker

_JOBS, _BATCHES = 2_000_000, 1_000
_CLAIMS = 200
_WANTED = 1.2
_CHUNK = 10_000
_LARGE, _SMALL, _ROWS = 100_000, 20, 10
_HANDLER_SECONDS, _LATE_SECONDS = 0.005, 2.0


def fairness(jobs: int = _JOBS, batches: int = _BATCHES) -> bool:
    """Run small batches beside a large one; compare claims of many batches with those of one."""
    kept = _small_beside_large()
    for kind in ("SQLite", "PostgreSQL"):
        with (
            tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as folder,
            nullcontext(None) if kind == "SQLite" else cluster() as url,
        ):
            where = url or f"sqlite:///{Path(folder) / 'jobs.db'}"
            figures = asyncio.run(_claims(where, jobs, batches))
        for limit, (one, many) in figures.items():
            what = f"{kind}: a claim of {limit} where {jobs:,} jobs are in {batches:,} batches"
            kept = show(f"{what}, against one", many / one, at_most=_WANTED) and kept
            print(f"            {1e3 * many:.3f} ms against {1e3 * one:.3f} ms", flush=True)
    return kept


def _small_beside_large() -> bool:
    """Print how long twenty batches of ten take beside one of 100,000, and alone."""
    with server() as address, connect(address, api_key=API_KEY) as client:
        worker = Worker(address, "q", _handle, api_key=API_KEY)
        running = threading.Thread(target=worker.run)
        running.start()
        try:
            alone = _wait_for_small(client, "alone")
            large = client.enqueue_batch(flights(_LARGE), "q", name="large")
            beside = _wait_for_small(client, "beside")
            left = large.stats().pending
        finally:
            worker.stop()
            running.join()
    late = max(beside) - max(alone)
    kept = late <= _LATE_SECONDS and left > 0
    print(
        f"{late:8.2f} s  that the last of {_SMALL} batches of {_ROWS} took longer beside one of "
        f"{_LARGE:,} (wanted: at most {_LATE_SECONDS:g} s{'' if kept else ', MISSED'})"
    )
    print(
        f"            beside it {min(beside):.2f} to {max(beside):.2f} s, alone {min(alone):.2f} "
        f"to {max(alone):.2f} s; {left:,} jobs of the large one were still pending",
        flush=True,
    )
    return kept


def _wait_for_small(client: SpooledClient, run: str) -> list[float]:
    """Return how long each of some small batches takes that are enqueued together."""
    began = time.perf_counter()
    batches = [
        client.enqueue_batch(flights(_ROWS, number), "q", name=f"{run} {number}")
        for number in range(_SMALL)
    ]
    seconds = []
    for batch in batches:
        batch.wait(timeout=300)
        seconds.append(time.perf_counter() - began)
    return seconds


def _handle(_: Job) -> None:
    time.sleep(_HANDLER_SECONDS)


async def _claims(url: str, jobs: int, batches: int) -> dict[int, tuple[float, float]]:
    """Return by their limit what claims of one batch take, and those of many."""
    store = open_store(url, SystemClock())
    await store.open(lambda _: None)
    await _fill(store, "one", jobs, 1)
    await _fill(store, "many", jobs, batches)
    figures = {}
    for limit in (1, 100):
        taken: dict[str, list[float]] = {"one": [], "many": []}
        for _ in range(_CLAIMS):
            for queue, seconds in taken.items():
                began = time.perf_counter()
                claimed = await store.claim("o", ClaimRequest(queue, "w", 3_600_000, limit))
                seconds.append(time.perf_counter() - began)
                if len(claimed) != limit:
                    raise RuntimeError(f"{len(claimed)} jobs were claimed in place of {limit}")
        figures[limit] = (statistics.median(taken["one"]), statistics.median(taken["many"]))
    await store.close()
    return figures


async def _fill(store: JobStore, queue: str, jobs: int, batches: int) -> None:
    rows = jobs // batches
    for batch in range(batches):
        name = f"{queue}-{batch}"
        await store.open_batch("o", BatchOpening(name, queue, name))
        for first in range(0, rows, _CHUNK):
            numbers = range(first, min(first + _CHUNK, rows))
            keys = [hashlib.md5(f"{name} {number}".encode()).hexdigest() for number in numbers]
            payloads = [b"\n\xc8\x01" + b"x" * 197 for number in numbers]
            chunk = Chunk(name, "upload", first // _CHUNK, keys, payloads, 0, 3, 300, None, None)
            await store.add_chunk("o", chunk)
        await store.seal_batch("o", name)
