"""What turns cost: claims of a queue with a thousand batches, and with one."""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from benchmarks.measure import show
from benchmarks.postgres import cluster
from spooled_pipelines.server.core.clock import SystemClock
from spooled_pipelines.server.core.records import BatchOpening, Chunk
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.requests import ClaimRequest

_JOBS, _BATCHES = 2_000_000, 1_000
_CLAIMS = 200
_WANTED = 1.2
_CHUNK = 10_000


def fairness(jobs: int = _JOBS, batches: int = _BATCHES) -> bool:
    """Compare, on both stores, claims of jobs in many batches with those of as many in one."""
    kept = True
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
        print(
            "mean",
            limit,
            {q: round(1e3 * statistics.mean(s), 3) for q, s in taken.items()},
            flush=True,
        )
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
