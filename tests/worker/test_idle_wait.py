"""Waiting at an empty queue costs nothing and loses nothing."""

from __future__ import annotations

import asyncio

from spooled_pipelines import AsyncSpooledClient, Job
from spooled_pipelines.worker.clock import SYSTEM_CLOCK
from spooled_pipelines.worker.fetching.idle_wait import IdleSubscription
from spooled_pipelines.worker.settings import QueueShare, WorkerSettings
from tests.support.waiting import aeventually


class Subscriber:
    """A subscription, the jobs that it took, and whether it notified."""

    def __init__(self, client: AsyncSpooledClient, queue: str) -> None:
        self.taken: list[Job] = []
        self.notified = asyncio.Event()
        settings = WorkerSettings(queues=(QueueShare(queue),), worker_id="idle")
        self.subscription = IdleSubscription(
            client,
            SYSTEM_CLOCK,
            settings,
            queue,
            on_job=self.take,
        )

    def take(self, job: Job, claimed_at: float) -> None:
        self.taken.append(job)
        self.notified.set()


async def test_a_job_that_comes_later_notifies_at_once(
    async_client: AsyncSpooledClient, queue: str
) -> None:
    subscriber = Subscriber(async_client, queue)
    await subscriber.subscription.request()
    await aeventually(lambda: subscriber.subscription.is_open)
    made = await async_client.enqueue(queue, {"n": 1})
    await asyncio.wait_for(subscriber.notified.wait(), 10)
    assert [job.id for job in subscriber.taken] == [made.job_id]
    await subscriber.subscription.close()


async def test_only_one_job_is_taken_for_one_notification_however_often_it_is_asked(
    async_client: AsyncSpooledClient, queue: str
) -> None:
    subscriber = Subscriber(async_client, queue)
    for _ in range(3):
        await subscriber.subscription.request()
    for number in range(3):
        await async_client.enqueue(queue, {"n": number})
    await asyncio.wait_for(subscriber.notified.wait(), 10)
    assert len(subscriber.taken) == 1
    assert len(await async_client.dequeue(queue, "other", batch_size=10)) == 2
    await subscriber.subscription.close()


async def test_a_request_that_is_withdrawn_takes_no_job(
    async_client: AsyncSpooledClient, queue: str
) -> None:
    subscriber = Subscriber(async_client, queue)
    await subscriber.subscription.request()
    await subscriber.subscription.close()
    await subscriber.subscription.close()
    made = await async_client.enqueue(queue, {})
    assert [job.id for job in await async_client.dequeue(queue, "other")] == [made.job_id]
    assert subscriber.taken == []
