"""Waiting at an empty queue costs nothing and loses nothing."""

from __future__ import annotations

import asyncio
import time

from spooled_pipelines import AsyncSpooledClient, Job
from spooled_pipelines.worker.doorbell import Doorbell
from spooled_pipelines.worker.settings import QueueShare, WorkerSettings
from tests.support.waiting import aeventually


class Bell:
    """A doorbell, what it took, and whether it rang."""

    def __init__(self, client: AsyncSpooledClient, queue: str) -> None:
        self.taken: list[Job] = []
        self.rung = asyncio.Event()
        settings = WorkerSettings(queues=(QueueShare(queue),), worker_id="bell")
        self.doorbell = Doorbell(
            client, settings, queue, lambda job, claimed_at: self.taken.append(job), self.rung.set
        )


async def test_a_job_that_comes_later_rings_at_once(
    async_client: AsyncSpooledClient, queue: str
) -> None:
    bell = Bell(async_client, queue)
    await bell.doorbell.ask()
    await aeventually(lambda: bell.doorbell._standing)
    began = time.monotonic()
    made = await async_client.enqueue(queue, {"n": 1})
    await asyncio.wait_for(bell.rung.wait(), 10)
    assert time.monotonic() - began < 5
    assert [job.id for job in bell.taken] == [made.job_id]
    await bell.doorbell.close()


async def test_only_one_job_is_taken_for_one_ring_however_often_it_is_asked(
    async_client: AsyncSpooledClient, queue: str
) -> None:
    bell = Bell(async_client, queue)
    for _ in range(3):
        await bell.doorbell.ask()
    for number in range(3):
        await async_client.enqueue(queue, {"n": number})
    await asyncio.wait_for(bell.rung.wait(), 10)
    assert len(bell.taken) == 1
    assert len(await async_client.dequeue(queue, "other", batch_size=10)) == 2
    await bell.doorbell.close()


async def test_a_request_that_is_taken_back_takes_no_job(
    async_client: AsyncSpooledClient, queue: str
) -> None:
    bell = Bell(async_client, queue)
    await bell.doorbell.ask()
    await bell.doorbell.close()
    await bell.doorbell.close()
    made = await async_client.enqueue(queue, {})
    assert [job.id for job in await async_client.dequeue(queue, "other")] == [made.job_id]
    assert bell.taken == []
