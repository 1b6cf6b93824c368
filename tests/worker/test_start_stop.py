"""A worker may be started and stopped at any moment, in any order, from any thread."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable

import pytest

from spooled_pipelines import Job, connect
from spooled_pipelines.errors import UnavailableError
from spooled_pipelines.rpc.retry import RetryPolicy
from spooled_pipelines.testing import MemoryClient
from spooled_pipelines.worker import Worker, WorkerReport
from spooled_pipelines.worker.handlers.handler import Handler
from tests.support.waiting import eventually


def plain(job: Job) -> None:
    time.sleep(0.001)


async def in_the_loop(job: Job) -> None:
    await asyncio.sleep(0.001)


def threads_of_workers() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("spooled-")]


@pytest.mark.parametrize("handler", [plain, in_the_loop])
@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_calls_ends_with_no_job_in_hand_and_no_thread_left(
    spooled_client: MemoryClient, handler: Handler, seed: int
) -> None:
    chance = random.Random(seed)
    threads_before = threads_of_workers()
    spooled_client.enqueue_batch([{"n": n} for n in range(300)], "q", key="n")
    worker = Worker(spooled_client, "q", handler, concurrency=4)

    def later(call: Callable[[], object]) -> threading.Thread:
        def wait_and_call(seconds: float) -> None:
            time.sleep(seconds)
            call()

        return threading.Thread(target=wait_and_call, args=[chance.uniform(0, 0.2)])

    calls = [worker.start, worker.start, worker.stop, worker.stop, lambda: worker.report]
    if chance.random() < 0.5:
        calls.append(worker.abort)
    threads = [later(call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    report = worker.join(30)
    assert worker.start() is worker
    assert worker.join(0) == report
    assert report.abandoned == 0
    stats = spooled_client.queue_stats("q")
    assert (stats.processing, stats.completed) == (0, report.completed)
    assert stats.pending == 300 - report.completed
    eventually(lambda: threads_of_workers() == threads_before)


def test_one_that_is_stopped_before_it_starts_takes_no_job(spooled_client: MemoryClient) -> None:
    spooled_client.enqueue("q", {})
    worker = Worker(spooled_client, "q", plain)
    worker.stop()
    assert worker.run() == WorkerReport()
    assert spooled_client.queue_stats("q").pending == 1


def test_one_that_could_not_start_says_so_each_time() -> None:
    retry = RetryPolicy(max_attempts=1)
    with connect("127.0.0.1:1", api_key="sp_test_any", retry=retry) as client:
        worker = Worker(client, "q", plain)
    for attempt in (worker.start, worker.start, worker.join):
        with pytest.raises(UnavailableError):
            attempt()
    worker.stop()
    worker.abort()
