"""A worker whose slots are taken leaves jobs to others, also those that it had asked for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from spooled_pipelines import AsyncSpooledClient, Job, SpooledClient
from spooled_pipelines.worker import Worker
from spooled_pipelines.worker.clock import SYSTEM_CLOCK
from spooled_pipelines.worker.fetching.fetch_policy import Load, has_room, jobs_to_fetch
from spooled_pipelines.worker.fetching.fetcher import Fetcher, QueueSource
from spooled_pipelines.worker.jobs.leased_chunk import LeasedChunk
from spooled_pipelines.worker.settings import QueueShare, WorkerSettings
from tests.support.waiting import aeventually, eventually


class Hands:
    """What a worker of one slot has in hand, as its fetcher sees it."""

    def __init__(self, *, can_give_back: bool = True) -> None:
        self.unfinished = 0
        self.taken: list[Job | LeasedChunk] = []
        self.given_back: list[str] = []
        self._can_give_back = can_give_back

    def take(self, jobs: Job | LeasedChunk, claimed_at: float) -> None:
        self.unfinished += 1
        self.taken.append(jobs)

    def give_back(self, job: Job, claimed_at: float) -> bool:
        if self._can_give_back:
            self.given_back.append(job.id)
        return self._can_give_back


@asynccontextmanager
async def fetching(
    client: AsyncSpooledClient,
    hands: Hands,
    *shares: QueueShare,
    unfinished_of: Callable[[str], int] = lambda queue: 0,
) -> AsyncIterator[None]:
    """A fetcher that waits at its empty queues, with a request for the next job of each."""
    settings = WorkerSettings(queues=shares, worker_id="w", concurrency=1, idle_seconds=600)
    fetcher = Fetcher(
        client,
        SYSTEM_CLOCK,
        settings,
        load=lambda: Load(hands.unfinished, 0),
        unfinished_of=unfinished_of,
        rate=lambda: 0.0,
        on_jobs=hands.take,
        give_back=hands.give_back,
    )
    running = asyncio.create_task(fetcher.run())
    try:
        await aeventually(lambda: all(each.subscription.is_open for each in fetcher._sources))
        yield
    finally:
        fetcher.stop()
        await running


async def test_a_job_that_comes_when_another_queue_s_took_the_slot_is_given_back(
    async_client: AsyncSpooledClient, queue: str
) -> None:
    hands = Hands()
    one, other = f"{queue}-one", f"{queue}-other"
    async with fetching(async_client, hands, QueueShare(one), QueueShare(other)):
        await async_client.enqueue(one, {})
        await aeventually(lambda: hands.taken)
        second = (await async_client.enqueue(other, {})).job_id
        await aeventually(lambda: hands.given_back)
    assert (len(hands.taken), hands.given_back) == (1, [second])


async def test_a_job_beyond_what_its_queue_may_have_in_hand_is_given_back(
    async_client: AsyncSpooledClient, queue: str
) -> None:
    hands, in_hand = Hands(), 0
    share = QueueShare(queue, concurrency=1)
    async with fetching(async_client, hands, share, unfinished_of=lambda queue: in_hand):
        in_hand = 1
        job_id = (await async_client.enqueue(queue, {})).job_id
        await aeventually(lambda: hands.given_back)
    assert (hands.taken, hands.given_back) == ([], [job_id])


async def test_where_a_server_takes_nothing_back_the_job_waits_for_a_slot(
    async_client: AsyncSpooledClient, queue: str
) -> None:
    hands = Hands(can_give_back=False)
    async with fetching(async_client, hands, QueueShare(queue)):
        hands.unfinished = 1
        await async_client.enqueue(queue, {})
        await aeventually(lambda: hands.taken)


def test_what_a_full_worker_gives_back_is_there_for_another_and_counts_no_delivery(
    client: SpooledClient, queue: str
) -> None:
    one, other = f"{queue}-one", f"{queue}-other"
    go_on, began = threading.Event(), threading.Event()

    def slow(job: Job) -> None:
        began.set()
        go_on.wait(60)

    worker = Worker(client, [one, other], slow, concurrency=1, idle_seconds=600)
    with worker:
        try:
            eventually(lambda: all(each.subscription.is_open for each in _sources(worker)))
            client.enqueue(one, {})
            assert began.wait(30)
            job_id = client.enqueue(other, {}).job_id
            eventually(lambda: worker.report.returned)
            assert client.attempts(job_id) == []
            assert [job.id for job in client.dequeue(other, "another")] == [job_id]
        finally:
            go_on.set()


def _sources(worker: Worker) -> Sequence[QueueSource]:
    return () if worker._engine is None else worker._engine._fetcher._sources


@pytest.mark.parametrize("unfinished", [0, 3, 50, 600])
@pytest.mark.parametrize("rate", [0, 10, 10_000])
def test_there_is_room_wherever_jobs_are_asked_for(unfinished: int, rate: float) -> None:
    load = Load(unfinished, 0)
    assert has_room(load, 8, rate) or not jobs_to_fetch(load, 8, rate)
