"""Processes die and connections break: each job is settled once all the same."""

from __future__ import annotations

import logging
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from spooled_pipelines import Job, SpooledClient, connect
from spooled_pipelines.testing import MemoryClient
from spooled_pipelines.worker import Settled, Worker
from tests.support.processes import is_alive, status_of
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually

Runs = Callable[[str], list[tuple[int, int]]]
StartWorker = Callable[..., Any]
Fill = Callable[..., list[str]]

# Skipped where it has to run out.
LEASE = 60


def test_a_job_of_a_killed_worker_is_done_by_another_after_the_lease(
    spooled_client: MemoryClient, runs: Runs, start_worker: StartWorker
) -> None:
    client = spooled_client
    job_id = client.enqueue("q", {"n": 0, "seconds": 60}).job_id
    options = ("--lease-seconds", str(LEASE))
    killed = start_worker(client.settings, "q", "handlers:slow", *options)
    eventually(lambda: runs("began"))
    killed.send(signal.SIGKILL)
    assert killed.ended() == -signal.SIGKILL

    # Not before the lease is over: until then it might be alive.
    client.skip(LEASE / 2)
    assert client.dequeue("q", "another") == []
    with Worker(client, "q", lambda job: {"by": "another"}, lease_seconds=LEASE):
        client.skip(LEASE / 2)
        eventually(lambda: client.get_job(job_id).status == "completed")
    job = client.get_job(job_id)
    assert (job.result, job.retry_count) == ({"by": "another"}, 1)


def test_a_worker_that_slept_through_its_lease_cannot_settle_the_job(
    spooled_client: MemoryClient, folder: Path, runs: Runs, start_worker: StartWorker
) -> None:
    client = spooled_client
    job_id = client.enqueue("q", {"n": 0}).job_id
    # With a free slot it would ask for more, and get this very job when its lease is over.
    options = ("--lease-seconds", str(LEASE), "--concurrency", "1", "-v")
    stopped = start_worker(client.settings, "q", "handlers:gated", *options)
    eventually(lambda: runs("began"))
    stopped.send(signal.SIGSTOP)
    try:
        with Worker(client, "q", lambda job: {"by": "another"}, lease_seconds=LEASE):
            client.skip(LEASE)
            eventually(lambda: client.get_job(job_id).status == "completed")
    finally:
        (folder / "go").touch()
        stopped.send(signal.SIGCONT)
    eventually(lambda: runs("ended"))
    eventually(lambda: "lease lost" in stopped.log.read_text())
    assert client.get_job(job_id).result == {"by": "another"}
    stopped.send(signal.SIGTERM)
    assert stopped.ended() == 0


def test_a_job_longer_than_its_lease_stays_with_its_worker(
    spooled_client: MemoryClient,
) -> None:
    client = spooled_client
    job_id = client.enqueue("q", {}).job_id
    expiries: list[Any] = []
    done = threading.Event()

    def handler(job: Job) -> dict[str, Any]:
        expiries.append(job.lease_expires_at)
        assert done.wait(30)
        return {"finished": True}

    def lease_expires_at() -> Any:
        return client.get_job(job_id).lease_expires_at

    with Worker(client, "q", handler, lease_seconds=LEASE, clock=client.clock) as worker:
        [expires_at] = eventually(lambda: expiries)
        for _ in range(3):
            client.skip(LEASE * 0.4)
            eventually(lambda before=expires_at: lease_expires_at() > before)
            expires_at = lease_expires_at()
        assert (expires_at - expiries[0]).total_seconds() > LEASE
        done.set()
        eventually(lambda: worker.report.settled)
    job = client.get_job(job_id)
    assert (job.status, job.retry_count, len(expiries)) == ("completed", 0, 1)


def test_a_result_without_a_lease_is_dropped_and_counted_as_lost(
    client: SpooledClient, queue: str, fill: Fill
) -> None:
    [job_id] = fill(1)

    def handler(job: Job) -> dict[str, Any]:
        # Somebody else settles it meanwhile, with the very lease.
        client.fail(job, "given up by hand", retry=False)
        return {"too": "late"}

    settled: list[Settled] = []
    report = Worker(client, queue, handler, stop_when_empty=True, on_settled=settled.append).run()
    assert (report.lost, report.settled) == (1, 0)
    assert [each.status for each in settled] == ["lost"]
    job = client.get_job(job_id)
    assert (job.status, job.result, job.last_error) == ("deadletter", None, "given up by hand")


def test_sigterm_under_load_leaves_nothing_in_processing(
    server: ServerProcess,
    client: SpooledClient,
    queue: str,
    runs: Runs,
    start_worker: StartWorker,
) -> None:
    import pyarrow as pa

    client.enqueue_batch(pa.table({"n": range(3_000)}), queue, key="n")
    worker = start_worker(server, queue, "handlers:quick")
    eventually(lambda: client.queue_stats(queue).completed > 200)
    worker.send(signal.SIGTERM)
    assert worker.ended() == 0
    stats = client.queue_stats(queue)
    assert stats.processing == 0
    assert stats.completed + stats.pending == 3_000
    ran = runs("ran")
    assert len(ran) == len(set(ran)) == stats.completed


def test_sigterm_is_heard_right_after_a_stop(
    server: ServerProcess, queue: str, start_worker: StartWorker
) -> None:
    # Then the kernel may hand the signal to any thread, and the main one sleeps on.
    workers = [start_worker(server, queue, "handlers:quick") for _ in range(3)]
    for worker in workers:
        eventually(lambda log=worker.log: "takes jobs" in log.read_text())
        worker.send(signal.SIGSTOP)
    for worker in workers:
        worker.send(signal.SIGCONT)
        worker.send(signal.SIGTERM)
    assert [worker.ended() for worker in workers] == [0, 0, 0]


def test_a_second_signal_gives_up_at_once(
    server: ServerProcess, queue: str, fill: Fill, runs: Runs, start_worker: StartWorker
) -> None:
    fill(1, seconds=600)
    worker = start_worker(server, queue, "handlers:slow", "--grace-seconds", "600")
    eventually(lambda: runs("began"))
    worker.send(signal.SIGINT)
    eventually(lambda: "stopping" in worker.log.read_text())
    assert worker.process.poll() is None
    worker.send(signal.SIGINT)
    assert worker.ended() == 130


def test_a_server_that_is_killed_and_comes_back_gets_each_result_once(
    start_server: Callable[..., ServerProcess], queue: str
) -> None:
    import pyarrow as pa

    server = start_server()
    jobs = 2_000
    ran: Counter[int] = Counter()
    completed: Counter[int] = Counter()

    def handler(job: Job) -> dict[str, Any]:
        ran[job.payload["n"]] += 1
        return {"n": job.payload["n"]}

    def watcher(settled: Settled) -> None:
        if settled.status == "completed":
            completed[settled.job.payload["n"]] += 1

    with connect(server.address, api_key=server.api_key) as client:
        batch = client.enqueue_batch(pa.table({"n": range(jobs)}), queue, key="n")
        worker = Worker(client, queue, handler, lease_seconds=5, on_settled=watcher)
        with worker:
            for threshold in (200, 900):
                eventually(lambda at=threshold: completed.total() > at)
                server.kill()
                server.restart()
            stats = batch.wait(timeout=60)
        results = batch.results()
    assert (stats.completed, stats.failed) == (jobs, 0)
    assert set(completed) <= set(range(jobs))
    assert max(completed.values()) == 1
    # A second run is explained by a lease that went with the server, never by anything else.
    assert set(ran) == set(range(jobs))
    again = sum(ran.values()) - jobs
    assert sorted(results.column("n").to_pylist()) == list(range(jobs))
    assert again <= 1_000


def test_results_wait_for_a_server_that_is_away(
    start_server: Callable[..., ServerProcess], queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "spooled_pipelines.worker")
    server = start_server()
    began, go_on = threading.Event(), threading.Event()

    def handler(job: Job) -> dict[str, Any]:
        began.set()
        assert go_on.wait(20)
        return {"kept": True}

    with connect(server.address, api_key=server.api_key) as client:
        job_id = client.enqueue(queue, {}).job_id
        with Worker(client, queue, handler) as worker:
            assert began.wait(60)
            server.kill()
            go_on.set()
            eventually(lambda: "results wait for the server (1 so far)" in caplog.text)
            server.restart()
            eventually(lambda: worker.report.completed == 1)
        assert "the server takes results again" in caplog.text
        job = client.get_job(job_id)
    assert (job.status, job.retry_count, job.result) == ("completed", 0, {"kept": True})


def test_processes_of_a_killed_worker_end_though_their_handlers_do_not(
    server: ServerProcess, queue: str, fill: Fill, runs: Runs, start_worker: StartWorker
) -> None:
    fill(1, seconds=600)
    options = ("--executor", "process", "--concurrency", "2")
    worker = start_worker(server, queue, "handlers:slow", *options)
    eventually(lambda: runs("began"), 60)
    [(_, busy)] = runs("began")
    children = children_of(worker.pid)
    # The one that works, the one that waits, and what Python starts beside them.
    assert busy in children
    assert len(children) >= 2
    worker.send(signal.SIGKILL)
    assert worker.ended() == -signal.SIGKILL
    eventually(lambda: not any(map(is_alive, children)))


def children_of(pid: int) -> list[int]:
    found = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    return [each for each in found if status_of(each)[1:2] == [str(pid)]]


@pytest.mark.parametrize("handler", ["forks", "awaits_and_forks"])
def test_a_copy_that_a_handler_forks_does_not_outlive_it(
    spooled_client: MemoryClient, start_worker: StartWorker, handler: str
) -> None:
    client = spooled_client
    ids = [client.enqueue("q", {}).job_id for _ in range(2)]
    worker = start_worker(client.settings, "q", f"handlers:{handler}", "--concurrency", "1")
    eventually(lambda: all(client.get_job(each).status == "completed" for each in ids))
    for each in ids:
        copy = psutil.Process(int((client.get_job(each).result or {})["copy"]))
        # It stays one that nobody has waited for as long as the worker lives.
        eventually(lambda copy=copy: copy.status() == psutil.STATUS_ZOMBIE)
    worker.send(signal.SIGTERM)
    assert worker.ended() == 0
