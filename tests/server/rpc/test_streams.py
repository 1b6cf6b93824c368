"""StreamJobs: jobs as they come, woken by commits, never polled for."""

from __future__ import annotations

import asyncio
from typing import Any

from spooled_pipelines.wire import spooled_v1 as spooled
from spooled_pipelines.wire.well_known import Timestamp
from tests.support.waiting import aeventually
from tests.support.wire import Wire

REQUEST = spooled.StreamJobsRequest(queue_name="q", worker_id="w")
TURNS = 200


async def turn() -> None:
    """Let everything that could run do so."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def test_jobs_come_as_they_are_enqueued(wire: Wire) -> None:
    there = await wire.enqueue()
    async with wire.stream(REQUEST, "StreamJobs") as stream:
        job = await stream.read()
        assert (job.id, job.assigned_worker_id) == (there, "w")
        for _ in range(3):
            later = await wire.enqueue()
            assert (await stream.read()).id == later


async def test_a_scheduled_job_comes_when_it_is_due(wire: Wire) -> None:
    due = wire.clock.now() // 1000 + 60
    job_id = await wire.enqueue(scheduled_at=Timestamp(seconds=due))
    async with wire.stream(REQUEST, "StreamJobs") as stream:
        reading = asyncio.ensure_future(stream.read())
        await turn()
        assert not reading.done()
        wire.clock.advance(60)
        assert (await reading).id == job_id


async def test_a_job_whose_lease_ran_out_comes_to_another(wire: Wire) -> None:
    job_id = await wire.enqueue()
    await wire.claim(worker_id="dies")
    async with wire.stream(REQUEST, "StreamJobs") as stream:
        wire.clock.advance(30)
        job = await stream.read()
        assert (job.id, job.retry_count, job.assigned_worker_id) == (job_id, 1, "w")


async def test_a_stream_holds_a_hundred_unsettled_jobs_at_most(wire: Wire) -> None:
    for _ in range(105):
        await wire.enqueue()
    async with wire.stream(REQUEST, "StreamJobs") as stream:
        jobs = [await stream.read() for _ in range(100)]
        more = asyncio.ensure_future(stream.read())
        await turn()
        assert not more.done()
        await wire.call(spooled.CompleteRequest(job_id=jobs[0].id, lease_id=jobs[0].lease_id))
        assert (await more).id not in {job.id for job in jobs}
    stats = await wire.call(spooled.GetQueueStatsRequest(queue_name="q"))
    assert (stats.completed, stats.processing) == (1, 100)


async def test_idle_streams_ask_the_store_for_nothing(wire: Wire) -> None:
    async with (
        wire.stream(REQUEST, "StreamJobs"),
        wire.stream(REQUEST, "StreamJobs"),
        wire.stream(REQUEST, "StreamJobs"),
    ):
        await aeventually(lambda: wire.store.claims == 3)
        wire.clock.advance(3_600)
        await wire.enqueue("another")
        await turn()
        assert wire.store.claims == 3
        await wire.enqueue()
        # Each is woken once, and the one that got the job looks for another.
        await aeventually(lambda: wire.store.claims == 7)
        await turn()
        assert wire.store.claims == 7


async def test_jobs_that_a_stream_claimed_and_did_not_hand_out_go_back(wire: Wire) -> None:
    # Ten of a megabyte: more than the connection takes in while nobody reads.
    big: dict[str, Any] = {"payload": {"a": "x" * 1_000_000}}
    for _ in range(10):
        await wire.enqueue(**big)
    async with wire.stream(REQUEST, "StreamJobs") as stream:
        await stream.read()
        await aeventually(lambda: wire.store.claims >= 1)

    async def pending() -> bool:
        stats = await wire.call(spooled.GetQueueStatsRequest(queue_name="q"))
        return bool(stats.pending >= 5)

    await aeventually(pending)
    job = await wire.claim(worker_id="next")
    assert job.retry_count == 0
