"""Several queues, limits, time-outs, and what a worker says about itself."""

from __future__ import annotations

import asyncio
import threading
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines import Job
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.testing import MemoryClient, server
from spooled_pipelines.testing.clock import MovableClock
from spooled_pipelines.worker import JobContext, QueueShare, Worker, WorkerReport
from spooled_pipelines.worker.fetching.fetch_policy import start_limit
from spooled_pipelines.worker.health.health_server import HealthServer
from tests.support.waiting import eventually

LEASE = 60


def fill(client: MemoryClient, queue_name: str, count: int, **options: Any) -> list[str]:
    return [client.enqueue(queue_name, {"n": n}, **options).job_id for n in range(count)]


def test_queues_are_served_in_proportion_to_their_weights(spooled_client: MemoryClient) -> None:
    client = spooled_client
    for name in ("much", "little"):
        client.enqueue_batch([{"n": n} for n in range(200)], name, key="n", name=name)
    order: list[str] = []
    with Worker(client, {"much": 3, "little": 1}, lambda job: order.append(job.queue_name)):
        eventually(lambda: len(order) >= 400, 60)
    first = Counter(order[:200])
    assert first["much"] > first["little"] > 0


@pytest.mark.parametrize("queues", [["a", "b"], [QueueShare("a", 2), "b"], {"a": 1, "b": 5}])
def test_every_queue_is_worked_off_and_new_jobs_of_each_are_found(
    spooled_client: MemoryClient, queues: Any
) -> None:
    fill(spooled_client, "a", 5)
    fill(spooled_client, "b", 5)
    report = Worker(spooled_client, queues, lambda job: None, stop_when_empty=True).run()
    assert report.completed == 10
    with Worker(spooled_client, queues, lambda job: None) as worker:
        for name in ("a", "b", "a"):
            before = worker.report.completed
            fill(spooled_client, name, 1)
            eventually(lambda before=before: worker.report.completed == before + 1)


def test_a_queue_has_no_more_in_hand_than_its_concurrency(spooled_client: MemoryClient) -> None:
    fill(spooled_client, "narrow", 12)
    fill(spooled_client, "wide", 12)
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    enough = asyncio.Event()

    async def handler(job: Job) -> None:
        running[job.queue_name] += 1
        most[job.queue_name] = max(most[job.queue_name], running[job.queue_name])
        if most["wide"] > 2:
            enough.set()
        await enough.wait()
        running[job.queue_name] -= 1

    queues = [QueueShare("narrow", concurrency=2), QueueShare("wide")]
    report = Worker(spooled_client, queues, handler, concurrency=8, stop_when_empty=True).run()
    assert report.completed == 24
    assert most["narrow"] <= 2 < most["wide"]


@pytest.mark.parametrize(
    ("queues", "said"),
    [
        ([], "got none"),
        (["a", "a"], "got 'a' twice"),
        ({"a": 0}, "weight of a .* got 0"),
        ([QueueShare("b"), ".c"], "got '.c'"),
    ],
)
def test_queues_that_make_no_sense_are_refused(
    spooled_client: MemoryClient, queues: Any, said: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        Worker(spooled_client, queues, lambda job: None)
    with pytest.raises(InvalidArgumentError, match=r"concurrency of q .* got 0"):
        QueueShare("q", concurrency=0)


def test_a_rate_is_a_token_bucket_that_fills_again() -> None:
    bucket = start_limit(10, now=0.0)
    assert bucket.available(0.0) == 1
    bucket.take()
    assert bucket.available(0.05) == 0
    assert bucket.time_until_one() == pytest.approx(0.05)
    assert bucket.available(0.1) == 1
    fast = start_limit(1_000, now=0.0)
    assert fast.available(60.0) == 100
    fast.take(150)
    assert fast.available(60.04) == 0


class StandingClock(MovableClock):
    """A clock that tests alone move."""

    def monotonic(self) -> float:
        return self._ahead


def test_a_worker_with_a_rate_begins_no_more_than_that(spooled_client: MemoryClient) -> None:
    fill(spooled_client, "q", 12)
    clock = StandingClock()
    with Worker(spooled_client, "q", lambda job: None, rate=8, clock=clock) as worker:
        eventually(lambda: worker.report.completed == 1)
        for completed in range(2, 7):
            clock.advance(1 / 8)
            eventually(lambda completed=completed: worker.report.completed == completed)
    stats = spooled_client.queue_stats("q")
    assert (stats.completed, stats.pending) == (6, 6)


def test_an_async_handler_that_takes_too_long_is_cancelled(spooled_client: MemoryClient) -> None:
    [job_id] = fill(spooled_client, "q", 1, timeout_seconds=20)
    began, cancelled = threading.Event(), threading.Event()

    async def handler(job: Job) -> None:
        began.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    clock = MovableClock()
    with Worker(spooled_client, "q", handler, clock=clock) as worker:
        assert began.wait(20)
        clock.advance(20)
        assert cancelled.wait(20)
        eventually(lambda: worker.report == WorkerReport(retrying=1))
    assert "did not end within" in (spooled_client.get_job(job_id).last_error or "")


def test_a_thread_is_told_and_its_job_fails_meanwhile_and_it_is_named(
    spooled_client: MemoryClient, caplog: pytest.LogCaptureFixture
) -> None:
    [job_id] = fill(spooled_client, "q", 1, timeout_seconds=20)
    began, told, go_on = threading.Event(), threading.Event(), threading.Event()

    def handler(context: JobContext) -> dict[str, Any]:
        assert not context.cancelled
        began.set()
        eventually(lambda: context.cancelled)
        told.set()
        go_on.wait(60)
        return {"too": "late"}

    clock = MovableClock()
    options: dict[str, Any] = {"concurrency": 1, "http": "127.0.0.1:0", "clock": clock}
    worker = Worker(spooled_client, "q", handler, **options).start()
    try:
        assert began.wait(20)
        clock.advance(20)
        assert told.wait(20)
        eventually(lambda: worker.report.retrying == 1)
        assert "handler hangs" not in caplog.text
        clock.advance(5)
        eventually(lambda: "handler hangs" in caplog.text)
        [record] = [each for each in caplog.records if "handler hangs" in each.message]
        said = vars(record)
        assert said["job_id"] == job_id
        assert "test_life.py" in said["at"] or "threading.py" in said["at"]
        assert worker.health_server is not None
        assert "do not end" in (worker.health_server.why_not_live() or "")
    finally:
        go_on.set()
        worker.stop()
    assert worker.join(20) == WorkerReport(retrying=1)
    job = spooled_client.get_job(job_id)
    assert (job.status, job.result) == ("pending", None)


def test_a_lost_lease_cancels_the_handler_and_its_result_is_dropped(
    spooled_client: MemoryClient,
) -> None:
    [job_id] = fill(spooled_client, "q", 1)
    began, cancelled = threading.Event(), threading.Event()

    async def handler(job: Job) -> None:
        began.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    clock = MovableClock()
    with Worker(spooled_client, "q", handler, lease_seconds=LEASE, clock=clock) as worker:
        assert began.wait(20)
        spooled_client.pause_queue("q")
        spooled_client.skip(LEASE + 1)
        # Time to renew, and the server says that there is no lease.
        clock.advance(LEASE / 2)
        assert cancelled.wait(20)
        eventually(lambda: worker.report.lost == 1)
    job = spooled_client.get_job(job_id)
    assert (job.status, job.retry_count) == ("pending", 1)


def test_what_was_fetched_ahead_goes_back_at_once(spooled_client: MemoryClient) -> None:
    fill(spooled_client, "q", 200)
    go_on = threading.Event()
    done = Counter[str]()

    def handler(job: Job) -> None:
        done["n"] += 1
        if done["n"] > 50:
            go_on.wait(20)

    worker = Worker(spooled_client, "q", handler, concurrency=1).start()
    eventually(lambda: done["n"] > 50)
    worker.stop()
    # Before what runs has ended: the rest is there for others.
    eventually(lambda: spooled_client.queue_stats("q").processing <= 1)
    go_on.set()
    report = worker.join(20)
    stats = spooled_client.queue_stats("q")
    assert (stats.processing, stats.completed) == (0, report.completed)
    assert stats.pending == 200 - report.completed
    assert {job.retry_count for job in spooled_client.dequeue("q", "w", batch_size=100)} == {0}


def test_a_second_stop_gives_back_what_runs(spooled_client: MemoryClient) -> None:
    [job_id] = fill(spooled_client, "q", 1)
    began, told = threading.Event(), threading.Event()

    def handler(context: JobContext) -> None:
        began.set()
        eventually(lambda: context.cancelled)
        told.set()

    worker = Worker(spooled_client, "q", handler).start()
    assert began.wait(20)
    worker.stop()
    worker.abort()
    assert worker.join(20) == WorkerReport(returned=1)
    assert told.wait(20)
    job = spooled_client.get_job(job_id)
    assert (job.status, job.retry_count) == ("pending", 0)


def test_a_plain_server_takes_nothing_back_and_the_rest_is_done() -> None:
    with server(batch_extension=False) as client:
        fill(client, "q", 50)
        done = Counter[str]()

        def settled(_: object) -> None:
            if done["n"] >= 10:
                worker.stop()

        options: dict[str, Any] = {"concurrency": 1, "on_settled": settled}
        worker = Worker(client, "q", lambda job: done.update("n"), **options)
        report = worker.run()
        assert report.returned == 0
        assert client.queue_stats("q").processing == 0
        assert client.queue_stats("q").completed == report.completed == done["n"]


def get(page: HealthServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{page.port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_it_says_over_http_that_it_lives_is_ready_and_what_it_did(
    spooled_client: MemoryClient,
) -> None:
    fill(spooled_client, "q", 3)
    with Worker(spooled_client, "q", lambda job: None, http="127.0.0.1:0") as worker:
        page = worker.health_server
        assert page is not None
        eventually(lambda: worker.report.completed == 3)
        assert get(page, "/live") == (200, "ok\n")
        assert get(page, "/ready") == (200, "ok\n")
        assert get(page, "/else")[0] == 404
        figures = get(page, "/metrics")[1]
        assert 'spooled_worker_jobs_total{queue="q",status="completed"} 3.0' in figures
        assert 'spooled_worker_handler_seconds_count{queue="q"} 3.0' in figures
        assert "spooled_worker_unfinished 0.0" in figures
    assert page.why_not_ready() == "stopping"
    with pytest.raises(InvalidArgumentError, match="HOST:PORT"):
        HealthServer("nowhere")


def test_a_file_says_that_it_lives_and_is_ready_until_it_ends(
    spooled_client: MemoryClient, tmp_path: Path
) -> None:
    file = tmp_path / "health"
    file.write_text("of one that was killed\n")
    began, go_on = threading.Event(), threading.Event()

    def handler(job: Job) -> None:
        began.set()
        go_on.wait(60)

    clock = MovableClock()
    worker = Worker(spooled_client, "q", handler, health_file=file, clock=clock).start()
    try:
        eventually(lambda: file.read_text() == "ready\n")
        first = file.stat().st_mtime_ns
        clock.advance(1)
        eventually(lambda: file.stat().st_mtime_ns > first)
        fill(spooled_client, "q", 1)
        assert began.wait(20)
        worker.stop()
        clock.advance(1)
        # What runs is finished meanwhile: it lives, and takes nothing more.
        eventually(lambda: file.read_text() == "stopping\n")
    finally:
        go_on.set()
    assert worker.join(20) == WorkerReport(completed=1)
    assert list(tmp_path.iterdir()) == []


class CountingClock(MovableClock):
    """A clock that counts how often the file was written, or left as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds = 0

    def wait_in_thread(self, event: threading.Event, timeout: float) -> bool:
        self.rounds += 1
        return super().wait_in_thread(event, timeout)


def test_the_file_grows_old_where_no_slot_comes_free_any_more(
    spooled_client: MemoryClient, tmp_path: Path
) -> None:
    file = tmp_path / "health"
    fill(spooled_client, "q", 1, timeout_seconds=20)
    began, go_on = threading.Event(), threading.Event()

    def handler(job: Job) -> None:
        began.set()
        go_on.wait(60)

    clock = CountingClock()
    options: dict[str, Any] = {"concurrency": 1, "health_file": file, "clock": clock}
    worker = Worker(spooled_client, "q", handler, **options).start()

    def written_at(seconds: int) -> set[int]:
        """When it was written while so many seconds went by."""
        seen = set[int]()
        for _ in range(seconds):
            before = clock.rounds
            clock.advance(1)
            eventually(lambda before=before: clock.rounds > before)
            seen.add(file.stat().st_mtime_ns)
        return seen

    try:
        assert began.wait(20)
        assert len(written_at(5)) > 1
        clock.advance(20)
        eventually(lambda: worker.report.retrying == 1)
        eventually(lambda: len(written_at(3)) == 1)
        assert len(written_at(10)) == 1
    finally:
        go_on.set()
        worker.stop()
    worker.join(20)
    assert not file.exists()


def test_a_file_that_cannot_be_is_refused(spooled_client: MemoryClient, tmp_path: Path) -> None:
    for path, said in ((tmp_path, "got the folder"), (tmp_path / "no" / "file", "does not exist")):
        with pytest.raises(InvalidArgumentError, match=said):
            Worker(spooled_client, "q", lambda job: None, health_file=path)
