"""Handlers in processes: a crash costs one job a try, and nothing else."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.testing import MemoryClient
from spooled_pipelines.testing.clock import MovableClock
from spooled_pipelines.worker import Worker, WorkerReport
from tests.support.waiting import eventually

LEASE = 60


@pytest.fixture
def handlers() -> Any:
    from tests.support import process_handlers

    return process_handlers


@pytest.fixture
def no_children_left() -> Iterator[None]:
    yield
    ours = "spooled-handler"
    eventually(lambda: ours not in {each.name for each in multiprocessing.active_children()})


def drain(client: MemoryClient, handler: Any, **options: Any) -> WorkerReport:
    options = {"concurrency": 2, "stop_when_empty": True, "executor": "process", **options}
    return Worker(client, "q", handler, **options).run()


def test_a_crash_fails_its_job_only_and_says_how(
    spooled_client: MemoryClient, handlers: Any, no_children_left: None
) -> None:
    hows = ["segfault", "exit", "raise", "retry", *[""] * 6]
    ids = [spooled_client.enqueue("q", {"how": how}).job_id for how in hows]
    report = drain(spooled_client, handlers.crash_on_demand)
    assert report == WorkerReport(completed=6, retrying=4)
    jobs = [spooled_client.get_job(job_id) for job_id in ids]
    assert "ended by SIGSEGV" in (jobs[0].last_error or "")
    assert "status 7" in (jobs[1].last_error or "")
    assert "ValueError: an ordinary error" in (jobs[2].last_error or "")
    assert "process_handlers.py" in (jobs[2].last_error or "")
    assert jobs[3].last_error == "later"
    results = [job.result for job in jobs[4:] if job.result]
    assert os.getpid() not in {result["pid"] for result in results}
    # A process that only runs handlers has no need of what talks to the server.
    assert not any(result["grpc"] for result in results)


@pytest.mark.parametrize("name", ["awaited", "rows"])
def test_async_handlers_and_rows_run_there_too(
    spooled_client: MemoryClient, handlers: Any, name: str
) -> None:
    ids = [spooled_client.enqueue("q", {"n": n}).job_id for n in range(5)]
    assert drain(spooled_client, getattr(handlers, name)).completed == 5
    results = [spooled_client.get_job(job_id).result for job_id in ids]
    assert os.getpid() not in {result["pid"] for result in results if result}


def test_a_job_that_takes_too_long_has_its_process_ended(
    spooled_client: MemoryClient, handlers: Any, tmp_path: Path, no_children_left: None
) -> None:
    payload = {"how": "hang", "mark": str(tmp_path / "began")}
    job_id = spooled_client.enqueue("q", payload, timeout_seconds=60).job_id
    clock = MovableClock()
    options: dict[str, Any] = {"concurrency": 2, "executor": "process", "clock": clock}
    handler = handlers.crash_on_demand
    with Worker(spooled_client, "q", handler, lease_seconds=3_600, **options) as worker:
        eventually((tmp_path / "began").exists)
        clock.advance(60)
        eventually(lambda: worker.report == WorkerReport(retrying=1))
    assert "did not end within the job's 60 s" in (spooled_client.get_job(job_id).last_error or "")


def test_a_lost_lease_ends_the_process_and_sends_nothing(
    spooled_client: MemoryClient, handlers: Any, tmp_path: Path, no_children_left: None
) -> None:
    mark = tmp_path / "began"
    job_id = spooled_client.enqueue("q", {"how": "hang", "mark": str(mark)}).job_id
    handler = handlers.crash_on_demand
    clock = MovableClock()
    options: dict[str, Any] = {"concurrency": 1, "executor": "process", "lease_seconds": LEASE}
    with Worker(spooled_client, "q", handler, worker_id="slow", clock=clock, **options) as worker:
        eventually(mark.exists)
        spooled_client.pause_queue("q")
        spooled_client.skip(LEASE + 1)
        # Time to renew, and the server says that there is no lease.
        clock.advance(LEASE / 2)
        eventually(lambda: worker.report.lost == 1)
    job = spooled_client.get_job(job_id)
    assert (job.status, job.retry_count, job.result) == ("pending", 1, None)


def test_what_another_process_cannot_import_is_said_before_a_job_is_taken(
    spooled_client: MemoryClient, no_children_left: None
) -> None:
    spooled_client.enqueue("q", {})
    with pytest.raises(InvalidArgumentError, match="at the top of a module"):
        drain(spooled_client, lambda job: None)
    with pytest.raises(InvalidArgumentError, match="1 to 256 processes"):
        drain(spooled_client, print, concurrency=1_000)
    assert spooled_client.queue_stats("q").pending == 1


def test_stopping_gives_back_what_a_process_is_at(
    spooled_client: MemoryClient, handlers: Any, tmp_path: Path, no_children_left: None
) -> None:
    mark = tmp_path / "began"
    job_id = spooled_client.enqueue("q", {"how": "hang", "mark": str(mark)}).job_id
    options: dict[str, Any] = {"concurrency": 1, "executor": "process", "grace_seconds": 0.1}
    worker = Worker(spooled_client, "q", handlers.crash_on_demand, **options).start()
    eventually(mark.exists)
    worker.stop()
    assert worker.join(30) == WorkerReport(returned=1)
    job = spooled_client.get_job(job_id)
    assert (job.status, job.retry_count) == ("pending", 0)


def test_a_handler_that_cannot_start_is_said_with_the_reason(
    spooled_client: MemoryClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def handler(job):\n    return None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    only_here = importlib.import_module("only_here")

    (tmp_path / "only_here.py").unlink()
    for cache in (tmp_path / "__pycache__").glob("*"):
        cache.unlink()
    with pytest.raises(InvalidArgumentError, match="did not start"):
        drain(spooled_client, only_here.handler)
    sys.modules.pop("only_here")
