"""What a store costs once it is large: statistics and claims at two million jobs, and at 2,000."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

from benchmarks.postgres import cluster
from benchmarks.servers import API_KEY, server
from benchmarks.tables import flights
from spooled_pipelines import SpooledClient, connect

_SMALL, _LARGE = 2_000, 2_000_000
_PART = 200_000
_CALLS = 60
_WANTED = 1.5


def scale() -> bool:
    """Both stores; medians of calls over the wire, small and large within one run."""
    kept = True
    for kind in ("SQLite", "PostgreSQL"):
        with nullcontext(None) if kind == "SQLite" else cluster() as url:
            arguments = () if url is None else ("--store", url)
            with server(*arguments) as address, connect(address, api_key=API_KEY) as client:
                kept = _compare(kind, client) and kept
    return kept


def _compare(kind: str, client: SpooledClient) -> bool:
    small = client.enqueue_batch(flights(_SMALL), "small")
    before = _figures(client, "small", small.id)
    began = time.perf_counter()
    ids = [
        client.enqueue_batch(flights(_PART, seed), "large", name=str(seed)).id
        for seed in range(_LARGE // _PART)
    ]
    seconds = time.perf_counter() - began
    print(f"            {kind}: {_LARGE:,} jobs in {seconds:.0f} s, {_LARGE / seconds:,.0f} rows/s")
    after = _figures(client, "large", ids[0])
    kept = True
    for what, first in before.items():
        ratio = after[what] / first
        missed = "" if ratio <= _WANTED else ", MISSED"
        print(
            f"{ratio:8.2f} ×  {kind}, {what} at {_LARGE:,} jobs against {_SMALL:,} "
            f"(wanted: at most {_WANTED:g} ×{missed})"
        )
        print(f"            {1e3 * after[what]:.2f} ms against {1e3 * first:.2f} ms", flush=True)
        kept = kept and not missed
    return kept


def _figures(client: SpooledClient, queue: str, batch_id: str) -> dict[str, float]:
    batch = client.batch(batch_id)
    claims = min(_CALLS, _SMALL // 100)
    return {
        "GetQueueStats": _median(lambda: client.queue_stats(queue), _CALLS),
        "GetBatchStats": _median(batch.stats, _CALLS),
        "a claim of 100": _median(lambda: client.dequeue(queue, "w", batch_size=100), claims),
    }


def _median(call: Callable[[], object], times: int) -> float:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    # The first calls made connections and filled caches.
    return statistics.median(seconds[len(seconds) // 5 :])
