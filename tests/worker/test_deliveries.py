"""Jobs that kill their worker, with real processes: they die alone, and take nobody along."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines import Job, connect
from spooled_pipelines.testing import MemoryClient
from spooled_pipelines.worker import JobContext, Worker
from tests.support import process_handlers
from tests.support.postgres import empty_store
from tests.support.server_thread import ServerThread
from tests.support.waiting import eventually

Runs = Callable[[str], list[tuple[int, int]]]
HANDLERS = """
import ctypes, os, signal
from handlers import note

def killer(job):
    note("ran", job)
    if job.payload["n"] == 3:
        how = job.payload["how"]
        if how == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "SIGSEGV":
            ctypes.string_at(0)
        os._exit(int(how))
    return {"n": job.payload["n"]}
"""

ROW_HANDLER = """
import os, signal
from spooled_pipelines.worker import batch_handler

@batch_handler(max_wait=0.5)
def killing_rows(rows):
    numbers = rows["n"].to_pylist()
    with open("calls.txt", "a") as file:
        file.write(" ".join(f"{number:.0f}" for number in numbers) + "\\n")
    if 19 in numbers:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("store", "how", "code", "flags"),
    [
        ("sqlite", "SIGKILL", -9, ("--processes", "2")),
        ("postgresql", "SIGSEGV", -11, ("--processes", "1")),
        ("sqlite", "0", 0, ("--processes", "1", "--concurrency", "3")),
        ("postgresql", "7", 7, ("--executor", "process", "--concurrency", "2")),
    ],
)
def test_one_that_kills_its_worker_dies_alone(
    folder: Path,
    runs: Runs,
    start_worker: Any,
    store: str,
    how: str,
    code: int,
    flags: tuple[str, ...],
) -> None:
    (folder / "killers.py").write_text(HANDLERS)
    rows = [{"n": n, "how": how} for n in range(20)]
    with (
        empty_store(store, folder) as url,
        ServerThread(folder, store=url) as server,
        connect(server.address, api_key=server.api_key) as client,
    ):
        # Without a retry, none of those that die beside it may lose one.
        batch = client.enqueue_batch(rows, "q", key="n", max_retries=0)
        start_worker(server, "q", "killers:killer", *flags)
        assert batch.wait(timeout=60, max_failed=1).completed == 19
        [dead] = client.dead_letters("q")
        deliveries = client.attempts(dead.id)
        job_ids = batch.ledger["job_id"].to_pylist()
        delivered = [client.get_job(job_id).deliveries for job_id in job_ids]
    assert (dead.payload["n"], dead.deliveries) == (3, len(deliveries))
    ends = {(each.ending, each.exit_code) for each in deliveries}
    assert ends == {("worker_died", code)}
    ran = Counter(n for n, _ in runs("ran"))
    assert ran.pop(3) == dead.deliveries
    assert len(ran) == 19
    # What was fetched ahead and had not begun was not delivered. One may have begun unnoted.
    assert all(times <= ran[n] + 1 for n, times in enumerate(delivered) if n != 3)


def test_a_job_that_is_to_run_alone_does_so_between_others(spooled_client: MemoryClient) -> None:
    client = spooled_client
    suspects = {client.enqueue("q", {"n": n}).job_id for n in range(2)}
    client.dequeue("q", "dead", batch_size=2)
    assert client.report_worker_death("dead", -9, "WorkerDied: killed") == 2
    for n in range(2, 12):
        client.enqueue("q", {"n": n})
    running: set[str] = set()
    beside: list[tuple[str, int]] = []

    def handler(job: Any) -> None:
        running.add(job.id)
        time.sleep(0.01)
        beside.append((job.id, len(running)))
        running.discard(job.id)

    report = Worker(client, "q", handler, concurrency=4, stop_when_empty=True).run()
    assert report.completed == 12
    assert {number for job_id, number in beside if job_id in suspects} == {1}
    assert max(number for _, number in beside) > 1


def test_a_worker_that_is_told_to_end_leaves_deliveries_and_no_retries(
    spooled_client: MemoryClient,
) -> None:
    client = spooled_client
    job_ids = [client.enqueue("q", {}).job_id for _ in range(2)]
    worker: Worker

    def handler(job: Job, context: JobContext) -> None:
        worker.abort()
        eventually(lambda: context.cancelled)

    for _ in range(2):
        worker = Worker(client, "q", handler, concurrency=1)
        assert worker.run().returned == 1
    endings = [[each.ending for each in client.attempts(job_id)] for job_id in job_ids]
    assert endings == [["given_back"] * 2, []]
    assert [client.get_job(job_id).retry_count for job_id in job_ids] == [0, 0]


def test_an_outcome_of_another_job_on_the_pipe_is_not_this_job_s(
    spooled_client: MemoryClient,
) -> None:
    client = spooled_client
    ids = [client.enqueue("q", {"n": n}).job_id for n in range(3)]
    handler = process_handlers.forge
    options: dict[str, Any] = {"executor": "process", "concurrency": 1, "stop_when_empty": True}
    assert Worker(client, "q", handler, **options).run().completed == 3
    assert [client.get_job(job_id).result for job_id in ids] == [{"n": n} for n in range(3)]


@pytest.mark.parametrize("flags", [("--executor", "process"), ("--processes", "1")])
def test_a_row_that_kills_its_process_is_found_in_few_calls(
    folder: Path, start_worker: Any, flags: tuple[str, ...]
) -> None:
    (folder / "rowkillers.py").write_text(ROW_HANDLER)
    with (
        ServerThread(folder) as server,
        connect(server.address, api_key=server.api_key) as client,
    ):
        batch = client.enqueue_batch([{"n": n} for n in range(32)], "q", key="n", max_retries=0)
        start_worker(server, "q", "rowkillers:killing_rows", "--concurrency", "1", *flags)
        assert batch.wait(timeout=120, max_failed=1).completed == 31
        [dead] = client.dead_letters("q")
        job_ids = batch.ledger["job_id"].to_pylist()
        delivered = [client.get_job(job_id).deliveries for job_id in job_ids]
    calls = [line.split() for line in (folder / "calls.txt").read_text().splitlines()]
    # 32, and of those that it took along an eighth or fewer, until it runs alone.
    deaths = [len(call) for call in calls if "19" in call]
    assert all(later <= (before + 7) // 8 for before, later in pairwise(deaths))
    assert (deaths[0], deaths[-1]) == (32, 1)
    assert (dead.payload["n"], dead.deliveries) == (19, len(deaths))
    # Each delivery is counted, and the others are not run one by one.
    runs = Counter(int(number) for call in calls for number in call)
    assert [runs[n] for n in range(32)] == delivered
    assert len(calls) < 20


def test_a_row_that_kills_the_process_of_its_batch_dies_alone(spooled_client: MemoryClient) -> None:
    client = spooled_client
    client.enqueue_batch([{"n": n} for n in range(6)], "q", key="n", max_retries=0)
    options: dict[str, Any] = {"executor": "process", "concurrency": 1, "stop_when_empty": True}
    report = Worker(client, "q", process_handlers.killing_rows, **options).run()
    assert (report.completed, report.deadletter) == (5, 1)
    [dead] = client.dead_letters("q")
    assert (dead.payload["n"], dead.deliveries) == (3, 2)
    [first, last] = client.attempts(dead.id)
    assert (first.exit_code, last.exit_code) == (5, 5)
