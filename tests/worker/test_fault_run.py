"""Jobs are settled exactly once, whatever happens to workers, server and network meanwhile."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from spooled_pipelines.worker import Worker
from tests.support.fault_run import QUEUE, FaultRun, Found, check, client_of
from tests.support.postgres import empty_store
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually

SEED = 20261125
StartServer = Callable[..., ServerProcess]


def pauses(seed: int, least: float, most: float, count: int) -> Iterator[float]:
    chance = random.Random(seed)
    return (chance.uniform(least, most) for _ in range(count))


def faulty_run(
    folder: Path,
    server: ServerProcess,
    lots: list[list[dict[str, Any]]],
    faults: Iterable[float],
    *arguments: str,
) -> Found:
    with client_of(server) as client, FaultRun(folder, server, SEED, *arguments) as run:
        found = run.run(client, lots, faults)
    print("\n" + found.describe(), flush=True)
    check(found, sum(map(len, lots)))
    return found


def test_a_small_run_with_faults_settles_each_job_once(
    start_server: StartServer, tmp_path: Path
) -> None:
    rows = [{"n": n, "takes": 0.1} for n in range(2_000)]
    lots = [rows[start : start + 250] for start in range(0, len(rows), 250)]
    found = faulty_run(tmp_path, start_server(), lots, pauses(SEED, 0.3, 1.2, len(lots)))
    # It was worth checking: jobs were in hand when their workers went.
    assert sum(job.retry_count for job in found.jobs)


@pytest.fixture(params=["sqlite", "postgresql"])
def on_each_store(
    request: pytest.FixtureRequest, start_server: StartServer, tmp_path: Path
) -> Iterator[ServerProcess]:
    """A server over each kind of store."""
    with empty_store(request.param, tmp_path) as url:
        yield start_server("--store", url)


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_a_hundred_thousand_jobs_with_faults(on_each_store: ServerProcess, tmp_path: Path) -> None:
    rows = [{"n": n} for n in range(100_000)]
    faulty_run(tmp_path, on_each_store, [rows], pauses(SEED, 0.5, 3.0, 10_000))


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_the_same_with_processes_that_crash(on_each_store: ServerProcess, tmp_path: Path) -> None:
    arguments = ("--executor", "process", "--concurrency", "2")
    rows = [{"n": n, "crash": n % 500 == 0} for n in range(20_000)]
    faulty_run(tmp_path, on_each_store, [rows], pauses(SEED, 2.0, 6.0, 10_000), *arguments)


HANDLER = "import time\ndef run(job):\n    time.sleep(0.01)\n"
# One that used it up would not end while the test waits.
GRACE_SECONDS = 600.0


def stop_again_and_again(
    server: ServerProcess, folder: Path, start_worker: Any, times: int
) -> list[float]:
    """A worker under load gets SIGTERM, so many times; how long each took to end."""
    (folder / "napping.py").write_text(HANDLER)
    ends: list[float] = []
    with client_of(server) as client:
        batch = client.enqueue_batch([{"n": n} for n in range(1_000 * times)], QUEUE, key="n")
        for _ in range(times):
            before = batch.stats().completed
            options = ["--grace-seconds", f"{GRACE_SECONDS:g}"]
            worker = start_worker(server, QUEUE, "napping:run", *options)
            eventually(lambda before=before: batch.stats().completed > before, 60)
            began = time.monotonic()
            worker.send(signal.SIGTERM)
            assert worker.ended(60) == 0
            ends.append(time.monotonic() - began)
            stats = batch.stats()
            # Nothing waits for its lease to run out.
            assert stats.processing == 0
        assert stats.deadletter == 0
        left = client.dequeue(QUEUE, "w", batch_size=100)
        assert {job.retry_count for job in left} == {0}
    return ends


def test_sigterm_under_load_leaves_no_job_to_expire(
    server: ServerProcess, start_server: StartServer, folder: Path, start_worker: Any
) -> None:
    stop_again_and_again(start_server(), folder, start_worker, 3)


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_sigterm_under_load_fifty_times(
    start_server: StartServer, folder: Path, start_worker: Any
) -> None:
    ends = stop_again_and_again(start_server(), folder, start_worker, 50)
    ends.sort()
    print(f"\n50 stops: median {ends[25]:.2f} s, longest {ends[-1]:.2f} s, 0 jobs left to expire")


def soak(server: ServerProcess, jobs: int, lot: int) -> tuple[float, float]:
    """Memory of this process after the first tenth, and the most after it, in MiB."""
    process = psutil.Process()
    early = most = 0.0
    with client_of(server) as client:
        worker = Worker(client, QUEUE, lambda job: None, concurrency=8)
        with worker:
            for start in range(0, jobs, lot):
                client.enqueue_batch([{"n": n} for n in range(start, start + lot)], QUEUE, key="n")
                eventually(lambda done=start + lot: worker.report.completed >= done, 600)
                now = process.memory_info().rss / 2**20
                if start + lot <= jobs // 10:
                    early = max(early, now)
                most = max(most, now)
        assert worker.report.completed == jobs
    return early, most


def test_a_worker_s_memory_is_flat(start_server: StartServer) -> None:
    early, most = soak(start_server(), 20_000, 1_000)
    assert most <= early * 1.2


@pytest.mark.long
@pytest.mark.timeout(7_200)
def test_two_million_jobs_through_one_worker(start_server: StartServer) -> None:
    began = time.monotonic()
    early, most = soak(start_server(), 2_000_000, 10_000)
    print(
        f"\n2,000,000 jobs in {time.monotonic() - began:.0f} s: {early:.0f} MiB after a tenth, "
        f"{most:.0f} MiB at most, {most / early:.2f} ×"
    )
    assert most <= early * 1.2
