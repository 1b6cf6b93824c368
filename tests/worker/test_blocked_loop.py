"""An async handler that blocks the event loop keeps its lease, and is named in the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from spooled_pipelines import Job
from spooled_pipelines.testing import MemoryClient
from spooled_pipelines.worker import Worker, WorkerReport
from tests.support.waiting import eventually

LEASE = 60


class Blocking:
    """An async handler that blocks its event loop until it is released."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.release = threading.Event()
        self.runs = 0

    async def __call__(self, job: Job) -> None:
        self.runs += 1
        self.began.set()
        self.release.wait(60)  # this line blocks


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    handler = Blocking()
    yield handler
    handler.release.set()


def worker_of(client: MemoryClient, handler: Blocking) -> Worker:
    return Worker(client, "q", handler, concurrency=1, lease_seconds=LEASE, clock=client.clock)


def test_the_leases_of_a_blocked_loop_are_renewed(
    spooled_client: MemoryClient, blocking: Blocking
) -> None:
    job_id = spooled_client.enqueue("q", {}, timeout_seconds=300).job_id
    with worker_of(spooled_client, blocking) as worker:
        assert blocking.began.wait(20)
        for _ in range(5):
            before = spooled_client.get_job(job_id).lease_expires_at
            assert before is not None
            spooled_client.skip(LEASE * 0.4)
            eventually(
                lambda before=before: spooled_client.get_job(job_id).lease_expires_at > before
            )
        blocking.release.set()
        eventually(lambda: worker.report == WorkerReport(completed=1))
    job = spooled_client.get_job(job_id)
    assert (job.status, job.retry_count, blocking.runs) == ("completed", 0, 1)


def test_a_loop_that_is_blocked_beyond_the_jobs_time_loses_its_leases(
    spooled_client: MemoryClient, blocking: Blocking
) -> None:
    ids = [spooled_client.enqueue("q", {}, timeout_seconds=60).job_id for _ in range(2)]
    with worker_of(spooled_client, blocking) as worker:
        assert blocking.began.wait(20)
        spooled_client.pause_queue("q")
        spooled_client.skip(LEASE + 30)
        spooled_client.skip(LEASE)
        jobs = [spooled_client.get_job(job_id) for job_id in ids]
        assert {job.status for job in jobs} == {"pending"}
        blocking.release.set()
        eventually(lambda: worker.report.lost >= 1)
        assert worker.report.completed == 0


def test_what_blocks_the_loop_is_named_in_the_log(
    spooled_client: MemoryClient, blocking: Blocking, caplog: pytest.LogCaptureFixture
) -> None:
    spooled_client.enqueue("q", {})
    with caplog.at_level(logging.ERROR), worker_of(spooled_client, blocking):
        assert blocking.began.wait(20)
        eventually(lambda: "the event loop is blocked" in caplog.text)
        blocking.release.set()
    [said] = [record.getMessage() for record in caplog.records if "blocked" in record.msg]
    code = Blocking.__call__.__code__
    assert f"{code.co_filename}:{code.co_firstlineno + 3} in __call__" in said
