"""What it costs SQLite's writer to fail a job, against completing one."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Side, in_turns, show
from spooled_pipelines.server.core.jobs.records import NewJob
from spooled_pipelines.server.core.jobs.settlements import (
    Completion,
    Failure,
    LeaseHolder,
    Settlement,
)
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.requests import ClaimRequest

_JOBS = 2_000
_CALL = 100
_RUNS = 9


def settling() -> bool:
    """By CPU time, since nothing but this process works: a failure goes through `transition`."""

    def completed(run: int) -> float:
        return asyncio.run(_seconds(Completion(None), run))

    def failed(run: int) -> float:
        return asyncio.run(_seconds(Failure("it failed", retry=True), run))

    complete, fail = in_turns(
        Side("complete", _JOBS, completed), Side("fail", _JOBS, failed), runs=_RUNS
    )
    most = 1.8
    kept = show(
        "the CPU of failing a job, against completing it",
        complete.per_second / fail.per_second,
        at_most=most,
    )
    print(f"            {fail}")
    print(f"            {complete}", flush=True)
    return kept


async def _seconds(act: Completion | Failure, run: int) -> float:
    """Return the CPU time of settling all jobs of a store so."""
    with tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as folder:
        store = open_store(f"sqlite:///{Path(folder) / 'jobs.db'}", SystemClock())
        await store.open(lambda _: None)
        jobs = [_job(f"{run:016x}{number:016x}") for number in range(_JOBS)]
        await asyncio.gather(*[store.enqueue("o", job) for job in jobs])
        request = ClaimRequest("q", "w", 600_000, _CALL)
        claims = [await store.claim("o", request) for _ in range(_JOBS // _CALL)]
        began = time.process_time()
        for claimed in claims:
            holders = [LeaseHolder(job.job_id, "w", job.lease_id or "") for job in claimed]
            await store.settle("o", [Settlement(holder, act) for holder in holders])
        taken = time.process_time() - began
        await store.close()
    return taken


def _job(key: str) -> NewJob:
    return NewJob("q", b"", 0, 3, 300, None, key, None)
