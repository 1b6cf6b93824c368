"""What clients are told once the server has let go of something."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spooled_pipelines.server.core.upkeep.retention import Retention
from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.wire import Wire, answered, struct

DAY = 86_400


@pytest.fixture
async def forgetting(tmp_path: Path, store_url: str) -> AsyncIterator[Wire]:
    retention = Retention(DAY, DAY, DAY, DAY)
    async with Wire(tmp_path, store=store_url, retention=retention) as wire:
        yield wire


async def fill(wire: Wire, batch_id: str, *keys: str) -> None:
    opening = batch.OpenBatch(batch_id=batch_id, queue_name="q", upload_id="u")
    rows = batch.JobChunk(
        payloads=[struct(key=key).SerializeToString() for key in keys], idempotency_keys=keys
    )
    async with wire.conversation("EnqueueBatch") as upload:
        await upload.write(batch.EnqueueBatchRequest(open=opening))
        await upload.read()
        await upload.write(batch.EnqueueBatchRequest(chunk=rows))
        await upload.read()
    await wire.call(batch.SealBatchRequest(batch_id=batch_id))


async def test_a_watcher_and_a_late_worker_are_told_what_is_gone(forgetting: Wire) -> None:
    await fill(forgetting, "old", "one")
    job = await forgetting.claim()
    done = spooled.CompleteRequest(job_id=job.id, worker_id="w", lease_id=job.lease_id)
    await forgetting.call(done)
    await fill(forgetting, "new", "two")
    watch = batch.WatchBatchRequest(batch_ids=["old", "new"])
    async with forgetting.stream(watch, "WatchBatch") as stats:
        assert {(await stats.read()).batch_id, (await stats.read()).batch_id} == {"old", "new"}
        forgetting.clock.advance(2 * DAY)
        code, message = await stats.status()
        assert (code, message) == ("NOT_FOUND", "there is no batch 'old'")
    with answered("NOT_FOUND", f"there is no job '{job.id}'"):
        await forgetting.call(done)
    stats_of_new = await forgetting.call(batch.GetBatchStatsRequest(batch_ids=["new"]))
    assert stats_of_new.batches[0].pending == 1
