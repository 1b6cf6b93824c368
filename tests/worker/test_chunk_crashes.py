"""A worker dies in the middle of a chunk: each job stays where it was, on both stores."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from spooled_pipelines import connect
from spooled_pipelines.rpc.settings import ConnectionSettings
from spooled_pipelines.worker import Worker
from tests.support.postgres import empty_store
from tests.support.waiting import aeventually
from tests.support.wire import KEY, Wire

# Jobs below 20 are done at once, the others never.
HALVES = """
import os, time
from spooled_pipelines.worker import batch_handler

def single(job):
    if job.payload["n"] >= 20:
        time.sleep(600)
    return {"n": job.payload["n"], "by": "first"}

@batch_handler(max_rows=10)
def rows(batch):
    if batch["n"][0].as_py() >= 20:
        time.sleep(600)
    return [{"n": n, "by": "first"} for n in batch["n"].to_pylist()]
"""
JOBS, LEASE = 40, 60


@pytest.fixture(params=["sqlite", "postgresql"])
async def wire(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Wire]:
    with empty_store(request.param, tmp_path) as url:
        async with Wire(tmp_path, store=url) as wire:
            yield wire
            assert await wire.store.recount() == []


@pytest.mark.parametrize(("handler", "concurrency"), [("single", JOBS), ("rows", 4)])
async def test_what_was_settled_stays_and_the_rest_runs_again(
    wire: Wire, folder: Path, start_worker: Callable[..., Any], handler: str, concurrency: int
) -> None:
    (folder / "halves.py").write_text(HALVES)
    settings = ConnectionSettings(wire.address, api_key=KEY)
    with connect(wire.address, api_key=KEY) as client:
        table = pa.table({"n": range(JOBS)})
        batch = await asyncio.to_thread(client.enqueue_batch, table, "q", key="n")
        options = ("--lease-seconds", str(LEASE), "--concurrency", str(concurrency))
        killed = start_worker(settings, "q", f"halves:{handler}", *options)

        async def counts() -> tuple[int, int, int]:
            stats = await asyncio.to_thread(client.queue_stats, "q")
            return stats.completed, stats.processing, stats.pending

        async def is_half_done() -> bool:
            return await counts() == (20, 20, 0)

        await aeventually(is_half_done)
        killed.send(signal.SIGKILL)
        assert await asyncio.to_thread(killed.ended) == -signal.SIGKILL

        wire.clock.advance(LEASE - 1)
        await wire.store.sweep()
        assert await counts() == (20, 20, 0)
        wire.clock.advance(1)
        await wire.store.sweep()
        assert await counts() == (20, 0, 20)
        second = Worker(
            client, "q", lambda job: {**job.payload, "by": "second"}, stop_when_empty=True
        )
        assert (await asyncio.to_thread(second.run)).completed == 20
        results = await asyncio.to_thread(batch.results)
        by = dict(zip(*(results.column(name).to_pylist() for name in ("n", "by")), strict=True))
    assert by == {n: "first" if n < 20 else "second" for n in range(JOBS)}
