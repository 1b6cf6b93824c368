"""Limits of a queue over the wire: every way of taking jobs keeps to them, and is woken by them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import queue_admin_v1 as admin
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.wire import Wire, answered


async def limit(wire: Wire, **limits: Any) -> admin.QueueLimits:
    request = admin.SetQueueLimitsRequest(queue_name="q", limits=admin.QueueLimits(**limits))
    return (await wire.call(request)).limits


async def processing(wire: Wire) -> int:
    return (await wire.call(spooled.GetQueueStatsRequest(queue_name="q"))).processing


async def test_limits_are_read_as_they_were_set(wire: Wire) -> None:
    asked = admin.GetQueueLimitsRequest(queue_name="q")
    assert (await wire.call(asked)).limits == admin.QueueLimits()
    kept = await limit(wire, jobs_per_second=0.5, max_in_flight=2)
    assert kept == admin.QueueLimits(jobs_per_second=0.5, burst=1, max_in_flight=2)
    await wire.call(admin.PauseQueueRequest(queue_name="q"))
    assert await wire.call(asked) == admin.GetQueueLimitsResponse(limits=kept, paused=True)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"jobs_per_second": 0.0}, ", got 0; "),
        ({"jobs_per_second": -1.0}, ", got -1; "),
        ({"jobs_per_second": float("nan")}, ", got nan; "),
        ({"jobs_per_second": float("inf")}, ", got inf; "),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"jobs_per_second": 1.0, "burst": -3}, "burst"),
        ({"burst": 3}, "give jobs_per_second too"),
    ],
)
async def test_limits_that_make_no_sense_are_refused(
    wire: Wire, limits: dict[str, float], text: str
) -> None:
    with answered("INVALID_ARGUMENT", text):
        await limit(wire, **limits)


async def test_a_stream_gets_its_jobs_at_the_rate_without_asking(wire: Wire) -> None:
    for _ in range(3):
        await wire.enqueue()
    await limit(wire, jobs_per_second=1.0)
    request = spooled.StreamJobsRequest(queue_name="q", worker_id="w")
    async with wire.stream(request, "StreamJobs") as stream:
        assert await stream.read() is not None
        for _ in range(2):
            reading = asyncio.ensure_future(stream.read())
            wire.clock.advance(0.5)
            assert await processing(wire) < 3
            assert not reading.done()
            wire.clock.advance(0.5)
            assert await reading is not None


@pytest.mark.parametrize("kind", ["dequeue", "subscribe"])
async def test_a_conversation_gets_no_more_than_the_cap_until_one_settles(
    wire: Wire, kind: str
) -> None:
    for _ in range(4):
        await wire.enqueue()
    await limit(wire, max_in_flight=2)
    asked: dict[str, Any] = {
        "dequeue": spooled.DequeueRequest(queue_name="q", worker_id="w", batch_size=4),
        "subscribe": spooled.SubscribeRequest(queue_name="q", worker_id="w", max_concurrent=4),
    }
    async with wire.conversation("ProcessJobs") as stream:
        await stream.write(spooled.ProcessRequest(**{kind: asked[kind]}))
        jobs = [(await stream.read()).job for _ in range(2)]
        reading = asyncio.ensure_future(stream.read())
        # By another call, so that what comes next on the stream is a job.
        await wire.call(spooled.CompleteRequest(job_id=jobs[0].id, lease_id=jobs[0].lease_id))
        assert (await reading).job.id not in {job.id for job in jobs}
        assert await processing(wire) == 2


async def test_lifting_a_limit_wakes_who_waits(wire: Wire) -> None:
    for _ in range(2):
        await wire.enqueue()
    await limit(wire, max_in_flight=1)
    request = spooled.StreamJobsRequest(queue_name="q", worker_id="w")
    async with wire.stream(request, "StreamJobs") as stream:
        assert await stream.read() is not None
        reading = asyncio.ensure_future(stream.read())
        await limit(wire)
        assert await reading is not None


async def test_a_watcher_of_a_batch_is_told_at_once_what_holds_it_back(wire: Wire) -> None:
    opening = batch.OpenBatch(batch_id="b", queue_name="q", upload_id="u")
    rows = batch.JobChunk(payloads=[b""] * 3, idempotency_keys=list("xyz"))
    async with wire.conversation("EnqueueBatch") as upload:
        await upload.write(batch.EnqueueBatchRequest(open=opening))
        await upload.write(batch.EnqueueBatchRequest(chunk=rows))
        await upload.read()
        await upload.read()
    await wire.call(batch.SealBatchRequest(batch_id="b"))
    await wire.call(spooled.RegisterWorkerRequest(queue_name="q", worker_id="w"), "Register")

    def causes(stats: batch.BatchStats) -> list[int]:
        return [stall.cause for stall in stats.stalls]

    async with wire.stream(batch.WatchBatchRequest(batch_ids=["b"]), "WatchBatch") as watching:
        assert causes(await watching.read()) == []
        await wire.call(admin.PauseQueueRequest(queue_name="q"))
        assert causes(await watching.read()) == [batch.Stall.CAUSE_QUEUE_PAUSED]
        await wire.call(admin.ResumeQueueRequest(queue_name="q"))
        assert causes(await watching.read()) == []
        await limit(wire, max_in_flight=1)
        await wire.claim()
        while (stats := await watching.read()).processing == 0:
            assert causes(stats) == []
        assert causes(stats) == [batch.Stall.CAUSE_LIMITED]
        assert "limited to 1 jobs in flight" in stats.stalls[0].message
        await limit(wire)
        assert causes(await watching.read()) == []
