"""Waiting at an empty queue costs nothing and loses nothing."""

from __future__ import annotations

import asyncio
import time

from support.waiting import aeventually

from spooled_pipelines import AsyncSpooledClient, Job
from spooled_pipelines.worker.doorbell import Doorbell
from spooled_pipelines.worker.settings import WorkerSettings


def doorbell_of(client: AsyncSpooledClient, queue: str, taken: list[Job]) -> Doorbell:
    settings = WorkerSettings(queue_name=queue, worker_id="bell")
    return Doorbell(client, settings, lambda job, claimed_at: taken.append(job))


async def test_a_job_that_comes_later_rings_at_once(
    async_client: AsyncSpooledClient, queue: str
) -> None:
    taken: list[Job] = []
    bell = doorbell_of(async_client, queue, taken)
    waiting = asyncio.ensure_future(bell.wait(60))
    await aeventually(lambda: bell._standing)
    began = time.monotonic()
    made = await async_client.enqueue(queue, {"n": 1})
    assert await waiting
    assert time.monotonic() - began < 5
    assert [job.id for job in taken] == [made.job_id]
    await bell.close()


async def test_only_one_job_is_taken_for_one_wait(
    async_client: AsyncSpooledClient, queue: str
) -> None:
    for number in range(3):
        await async_client.enqueue(queue, {"n": number})
    taken: list[Job] = []
    bell = doorbell_of(async_client, queue, taken)
    assert await bell.wait(10)
    assert len(taken) == 1
    assert len(await async_client.dequeue(queue, "other", batch_size=10)) == 2
    await bell.close()


async def test_a_request_that_is_taken_back_takes_no_job(
    async_client: AsyncSpooledClient, queue: str
) -> None:
    taken: list[Job] = []
    bell = doorbell_of(async_client, queue, taken)
    assert not await bell.wait(0.05)
    await bell.close()
    await bell.close()
    made = await async_client.enqueue(queue, {})
    assert [job.id for job in await async_client.dequeue(queue, "other")] == [made.job_id]
    assert taken == []


async def test_an_interrupted_wait_ends_at_once(
    async_client: AsyncSpooledClient, queue: str
) -> None:
    bell = doorbell_of(async_client, queue, [])
    waiting = asyncio.ensure_future(bell.wait(60))
    await aeventually(lambda: bell._standing)
    bell.interrupt()
    await asyncio.wait_for(waiting, 5)
    await bell.close()
