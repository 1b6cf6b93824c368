"""What `spooled_pipelines.testing` gives to the tests of others."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines import AsyncSpooledClient, Job
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.testing import MemoryClient, run_jobs, server
from spooled_pipelines.worker import Discard, Worker
from tests.support.waiting import eventually


def double(job: Job) -> dict[str, Any]:
    return {"doubled": job.payload["n"] * 2}


async def async_double(job: Job) -> dict[str, Any]:
    return double(job)


@pytest.mark.parametrize("handler", [double, async_double])
def test_jobs_run_inline_and_are_settled(
    spooled_client: MemoryClient, spooled_run_jobs: Callable[..., Any], handler: Any
) -> None:
    for n in range(3):
        spooled_client.enqueue("numbers", {"n": n})
    runs = spooled_run_jobs(handler, "numbers")
    assert [(run.job.status, run.job.result) for run in runs] == [
        ("completed", {"doubled": 2 * n}) for n in range(3)
    ]
    assert spooled_run_jobs(handler, "numbers") == []


def test_a_failed_job_is_tried_again_once_its_pause_is_skipped() -> None:
    def fail(job: Job) -> None:
        raise ValueError("not now")

    with server() as client:
        client.enqueue("q", {"n": 1})
        [run] = run_jobs(fail, "q")
        assert isinstance(run.exception, ValueError)
        assert (run.job.status, run.job.retry_count) == ("pending", 1)
        client.skip(30)
        assert run_jobs(double, "q") == []
        client.skip(30)
        [run] = run_jobs(double, "q")
        assert (run.job.status, run.exception) == ("completed", None)


def test_what_a_worker_would_bury_is_dead() -> None:
    def discard(job: Job) -> None:
        raise Discard("no use")

    with server() as client:
        client.enqueue("q", {"n": 1})
        [run] = run_jobs(discard, "q")
        assert (run.job.status, run.job.last_error) == ("deadletter", "no use")
        client.enqueue("q", {"n": 1})
        [run] = run_jobs(lambda job: {"id": 2**53 + 1}, "q")
        assert run.job.status == "deadletter"
        assert "id" in (run.job.last_error or "")


def test_leases_and_schedules_can_be_skipped(spooled_client: MemoryClient) -> None:
    client = spooled_client
    client.enqueue("q", {"n": 1})
    later = datetime.now(timezone.utc) + timedelta(days=3)
    client.enqueue("later", {"n": 2}, scheduled_at=later)
    [job] = client.dequeue("q", "somebody", lease_seconds=3_600)
    client.skip(3_600)
    assert client.get_job(job.id).status == "pending"
    assert client.dequeue("later", "somebody") == []
    client.skip(3 * 24 * 3_600)
    assert [job.payload["n"] for job in client.dequeue("later", "somebody")] == [2]


def test_a_worker_and_an_asyncio_client_and_a_batch_find_the_same_server(
    spooled_client: MemoryClient,
) -> None:
    import asyncio

    batch = spooled_client.enqueue_batch([{"n": n} for n in range(20)], "q", key="n")

    async def status() -> str:
        async with AsyncSpooledClient(spooled_client.settings) as client:
            return (await client.queue_stats("q")).queue_name

    assert asyncio.run(status()) == "q"
    with Worker(spooled_client, "q", double):
        assert batch.wait(timeout=20).completed == 20


def test_a_worker_with_the_client_s_clock_skips_time_as_well(spooled_client: MemoryClient) -> None:
    job_id = spooled_client.enqueue("q", {}, timeout_seconds=60).job_id
    leases: list[Any] = []
    go_on = threading.Event()

    def handler(job: Job) -> None:
        leases.append(job.lease_expires_at)
        go_on.wait(20)

    def is_renewed() -> bool:
        leases.append(spooled_client.get_job(job_id).lease_expires_at)
        return leases[-1] > leases[-2]

    with Worker(spooled_client, "q", handler, clock=spooled_client.clock) as worker:
        try:
            eventually(lambda: leases)
            for _ in range(3):
                spooled_client.skip(16)
                eventually(is_renewed)
            spooled_client.skip(16)
            eventually(lambda: worker.report.retrying == 1)
        finally:
            go_on.set()
    assert "within the job's 60 s" in (spooled_client.get_job(job_id).last_error or "")


def test_a_plain_server_answers_as_one() -> None:
    with server(batch_extension=False) as client:
        batch = client.enqueue_batch([{"n": 1}], "q", key="n")
        run_jobs(double, "q")
        assert batch.wait(timeout=20).completed == 1


def test_servers_are_apart_and_the_innermost_is_meant() -> None:
    with server() as outer, server() as inner:
        outer.enqueue("q", {"n": 1})
        assert run_jobs(double, "q") == []
        inner.enqueue("q", {"n": 2})
        assert len(run_jobs(double, "q")) == 1
        assert len(run_jobs(double, "q", client=outer)) == 1
    with pytest.raises(InvalidArgumentError, match="no server is open"):
        run_jobs(double, "q")


def test_a_handler_that_feeds_itself_ends_at_the_limit(spooled_client: MemoryClient) -> None:
    def more(job: Job) -> None:
        spooled_client.enqueue("q", {"n": job.payload["n"] + 1})

    spooled_client.enqueue("q", {"n": 0})
    assert len(run_jobs(more, "q", limit=5)) == 5


def test_time_goes_one_way(spooled_client: MemoryClient) -> None:
    with pytest.raises(InvalidArgumentError, match="-1"):
        spooled_client.skip(-1)


def test_the_fixtures_are_there_by_themselves_and_load_nothing_before(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(
        "import sys\n"
        "def test_nothing_heavy():\n"
        "    assert 'grpc' not in sys.modules\n"
        "def test_it(spooled_client, spooled_run_jobs):\n"
        "    spooled_client.enqueue('q', {})\n"
        "    assert len(spooled_run_jobs(lambda job: None, 'q')) == 1\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
