"""Throttled and Snooze: what a job asks for that is not its fault."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any, Literal

import pyarrow as pa
import pytest

from spooled_pipelines import Job, connect
from spooled_pipelines.testing import MemoryClient, run_jobs
from spooled_pipelines.worker import Snooze, Throttled, Worker, WorkerReport, batch_handler
from tests.support import process_handlers
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually


def plain(job: Job) -> None:
    if job.payload["n"] == 0:
        raise Throttled(after=3_600)
    raise Snooze("tomorrow", after=timedelta(hours=8))


async def awaited(job: Job) -> None:
    plain(job)


@batch_handler(max_wait=0.5)
def rows(batch: pa.RecordBatch) -> list[Exception]:
    decisions = (Throttled(after=3_600), Snooze("tomorrow", after=timedelta(hours=8)))
    return [decisions[min(n, 1)] for n in batch["n"].to_pylist()]


HANDLERS: dict[str, tuple[Any, Literal["thread", "process"]]] = {
    "thread": (plain, "thread"),
    "asyncio": (awaited, "thread"),
    "rows": (rows, "thread"),
    "process": (process_handlers.postponed, "process"),
}


@pytest.mark.parametrize("kind", HANDLERS)
def test_a_job_keeps_its_retries_and_the_queue_or_the_job_waits(
    spooled_client: MemoryClient, kind: str
) -> None:
    handler, executor = HANDLERS[kind]
    ids = [spooled_client.enqueue("q", {"n": n}, max_retries=0).job_id for n in range(2)]
    worker = Worker(spooled_client, "q", handler, concurrency=2, executor=executor)
    running = threading.Thread(target=worker.run)
    running.start()
    eventually(lambda: worker.report.returned == 2)
    worker.stop()
    running.join()
    assert worker.report == WorkerReport(returned=2)
    jobs = [spooled_client.get_job(job_id) for job_id in ids]
    assert [(job.status, job.retry_count) for job in jobs] == [("pending", 0)] * 2
    (queue,) = spooled_client.queues()
    assert queue.throttle is not None
    assert queue.throttle.held_until is not None
    assert queue.waiting == 1
    spooled_client.skip(3_605)
    assert [job.id for job in spooled_client.dequeue("q", "w", batch_size=2)] == ids[:1]
    spooled_client.skip(8 * 3_600)
    assert [job.id for job in spooled_client.dequeue("q", "w", batch_size=2)] == ids[1:]


def test_inline_runs_do_the_same(spooled_client: MemoryClient) -> None:
    for n in range(2):
        spooled_client.enqueue("q", {"n": n}, max_retries=0)
    first = run_jobs(plain, "q", limit=1)
    assert [(run.job.status, run.job.retry_count) for run in first] == [("pending", 0)]
    assert run_jobs(plain, "q") == []
    spooled_client.skip(3_605)
    assert [run.job.payload["n"] for run in run_jobs(plain, "q", limit=1)] == [0]


def test_a_pause_is_within_its_limits() -> None:
    for wrong in (-1, timedelta(days=31), float("nan")):
        with pytest.raises(ValueError, match="after must be 0 seconds to 30 days"):
            Snooze(after=wrong)
    with pytest.raises(ValueError, match="after must be 0 seconds to 1 days"):
        Throttled(after=timedelta(days=2))


def test_a_plain_server_gets_the_job_back_when_it_is_to_run_again(
    plain_server: ServerProcess, queue: str
) -> None:
    """Its lease says when: five seconds at least. That costs a retry."""
    client = connect(plain_server.address, api_key=plain_server.api_key)
    job_id = client.enqueue(queue, {"n": 1}).job_id
    calls: list[str] = []

    def handler(job: Job) -> None:
        calls.append(job.id)
        raise Snooze(after=600)

    worker = Worker(client, queue, handler, lease_seconds=5)
    running = threading.Thread(target=worker.run)
    running.start()
    eventually(lambda: worker.report.returned == 1)
    worker.stop()
    running.join()
    job = client.get_job(job_id)
    assert (calls, job.status, job.retry_count) == ([job_id], "processing", 0)
    assert job.lease_expires_at is not None
    assert job.started_at is not None
    assert job.lease_expires_at - job.started_at > timedelta(seconds=590)


@pytest.mark.parametrize("how", ["rate", "throttled", "paused", "in flight"])
def test_a_worker_that_ends_when_its_queue_is_empty_waits_for_what_is_held_back(
    spooled_client: MemoryClient, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    for n in range(5):
        spooled_client.enqueue("q", {"n": n})
    if how == "rate":
        spooled_client.set_queue_limits("q", jobs_per_second=20, burst=1)
    elif how == "paused":
        spooled_client.pause_queue("q")
    elif how == "in flight":
        spooled_client.set_queue_limits("q", max_in_flight=1)
        (taken,) = spooled_client.dequeue("q", "other")
    throttled: list[str] = []

    def handler(job: Job) -> None:
        if how == "throttled" and not throttled:
            throttled.append(job.id)
            raise Throttled(after=0.1)

    worker = Worker(spooled_client, "q", handler, concurrency=2, stop_when_empty=True).start()
    eventually(lambda: "of queue 'q' are due, but" in caplog.text)
    if how == "paused":
        spooled_client.resume_queue("q")
    elif how == "in flight":
        spooled_client.complete(taken)
    report = worker.join(60)
    assert report.completed == (4 if how == "in flight" else 5)
    assert spooled_client.queue_stats("q").pending == 0
