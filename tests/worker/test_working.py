"""A handler's life with its jobs: results, failures, refusals."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from spooled_pipelines import Job, SpooledClient, connect
from spooled_pipelines.errors import AuthenticationError, InvalidArgumentError, UnavailableError
from spooled_pipelines.rpc.retry import RetryPolicy
from spooled_pipelines.worker import Discard, Settled, Worker, WorkerReport
from tests.support.server_process import ServerProcess

Fill = Callable[..., list[str]]


def drain(client: SpooledClient, queue: str, handler: Any, **options: Any) -> WorkerReport:
    return Worker(client, queue, handler, stop_when_empty=True, **options).run()


def test_each_job_is_completed_with_what_its_handler_returned(
    client: SpooledClient, queue: str, fill: Fill
) -> None:
    ids = fill(5)
    report = drain(client, queue, lambda job: {"twice": job.payload["n"] * 2, "deep": {"a": [1]}})
    assert report == WorkerReport(completed=5)
    for n, job_id in enumerate(ids):
        job = client.get_job(job_id)
        assert job.status == "completed"
        assert job.result == {"twice": n * 2, "deep": {"a": [1]}}


def test_a_handler_may_return_nothing(client: SpooledClient, queue: str, fill: Fill) -> None:
    fill(1)
    assert drain(client, queue, lambda job: None) == WorkerReport(completed=1)


def test_an_async_handler_runs_many_jobs_at_once(
    client: SpooledClient, queue: str, fill: Fill
) -> None:
    fill(30)
    together: list[int] = []
    running = 0
    all_there = asyncio.Event()

    async def handler(job: Job) -> dict[str, Any]:
        nonlocal running
        running += 1
        together.append(running)
        if running == 20:
            all_there.set()
        await all_there.wait()
        running -= 1
        return {"n": job.payload["n"]}

    assert drain(client, queue, handler, concurrency=20) == WorkerReport(completed=30)
    assert max(together) == 20


def test_no_more_handlers_run_at_once_than_allowed(
    client: SpooledClient, queue: str, fill: Fill
) -> None:
    fill(200)
    lock = threading.Lock()
    running = most = 0

    def handler(job: Job) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1

    assert drain(client, queue, handler, concurrency=3).completed == 200
    assert most == 3


def test_an_exception_gives_the_job_back_with_its_type_message_and_place(
    client: SpooledClient, queue: str, fill: Fill
) -> None:
    [job_id] = fill(1)

    def handler(job: Job) -> None:
        raise ValueError("no such customer")

    assert drain(client, queue, handler) == WorkerReport(retrying=1)
    job = client.get_job(job_id)
    assert job.retry_count == 1
    assert job.last_error is not None
    assert job.last_error.startswith("ValueError: no such customer\n")
    assert 'raise ValueError("no such customer")' in job.last_error


def test_a_handler_that_exits_fails_its_job_and_not_the_worker(
    client: SpooledClient, queue: str, fill: Fill
) -> None:
    fill(2)

    def handler(job: Job) -> None:
        raise SystemExit(3)

    assert drain(client, queue, handler, concurrency=1) == WorkerReport(retrying=2)


def test_a_job_without_retries_left_is_dead(client: SpooledClient, queue: str) -> None:
    job_id = client.enqueue(queue, {}, max_retries=1).job_id
    claimed = client.dequeue(queue, "someone")
    client.fail(claimed[0], "first", retry=False)

    def handler(job: Job) -> None:
        raise Discard("the order was cancelled")

    other = client.enqueue(queue, {}).job_id
    assert drain(client, queue, handler) == WorkerReport(deadletter=1)
    assert client.get_job(job_id).status == "deadletter"
    job = client.get_job(other)
    assert (job.status, job.last_error) == ("deadletter", "the order was cancelled")


@pytest.mark.parametrize(
    ("result", "named"),
    [
        ({"id": 2**53 + 1}, "id"),
        ({"deep": {"ratio": float("inf")}}, "ratio"),
        ({"blob": b"\x00"}, "blob"),
        ({"text": "x" * (1 << 20)}, "1"),
        ([1, 2], "list"),
    ],
    ids=["integer", "infinity", "bytes", "over 1 MiB", "no mapping"],
)
def test_a_result_that_cannot_be_kept_fails_the_job_once_with_the_reason(
    client: SpooledClient, queue: str, fill: Fill, result: Any, named: str
) -> None:
    [job_id] = fill(1)
    assert drain(client, queue, lambda job: result) == WorkerReport(deadletter=1)
    job = client.get_job(job_id)
    assert (job.status, job.retry_count) == ("deadletter", 0)
    assert job.last_error is not None
    assert named in job.last_error


def test_a_coroutine_out_of_a_plain_function_fails_the_job(
    client: SpooledClient, queue: str, fill: Fill
) -> None:
    fill(1)

    async def work() -> None:
        return None

    assert drain(client, queue, lambda job: work()) == WorkerReport(deadletter=1)


def test_thousands_of_jobs_run_exactly_once_each(client: SpooledClient, queue: str) -> None:
    import pyarrow as pa

    client.enqueue_batch(pa.table({"n": range(3_000)}), queue, key="n")
    seen: Counter[int] = Counter()

    def handler(job: Job) -> dict[str, Any]:
        seen[job.payload["n"]] += 1
        return {"n": job.payload["n"]}

    assert drain(client, queue, handler) == WorkerReport(completed=3_000)
    assert seen == Counter(range(3_000))
    stats = client.queue_stats(queue)
    assert (stats.completed, stats.total) == (3_000, 3_000)


def test_progress_is_told_for_each_settled_job(
    client: SpooledClient, queue: str, fill: Fill
) -> None:
    ids = fill(3)
    told: list[Settled] = []

    def watcher(settled: Settled) -> None:
        told.append(settled)
        raise RuntimeError("a fault of the watcher is not the jobs'")

    assert drain(client, queue, lambda job: None, on_settled=watcher).completed == 3
    assert sorted(settled.job.id for settled in told) == sorted(ids)
    assert {settled.status for settled in told} == {"completed"}


def test_new_jobs_are_taken_while_it_runs_and_stop_ends_it(
    client: SpooledClient, queue: str, fill: Fill, drained: Callable[..., None]
) -> None:
    with Worker(client, queue, lambda job: None) as worker:
        fill(2)
        drained(2)
        fill(3)
        drained(5)
        assert worker.start() is worker
    assert worker.join() == WorkerReport(completed=5)
    worker.stop()
    worker.stop()


def test_a_handler_may_stop_its_own_worker(client: SpooledClient, queue: str, fill: Fill) -> None:
    fill(1)
    worker: Worker = Worker(client, queue, lambda job: worker.stop())
    assert worker.run() == WorkerReport(completed=1)


def test_stopping_finishes_what_runs(client: SpooledClient, queue: str, fill: Fill) -> None:
    [job_id] = fill(1)
    began, go_on = threading.Event(), threading.Event()

    def handler(job: Job) -> dict[str, Any]:
        began.set()
        assert go_on.wait(60)
        return {"finished": True}

    worker = Worker(client, queue, handler).start()
    assert began.wait(60)
    worker.stop()
    with pytest.raises(TimeoutError):
        worker.join(timeout=0.1)
    go_on.set()
    assert worker.join(timeout=60) == WorkerReport(completed=1)
    assert client.get_job(job_id).result == {"finished": True}


def test_what_outlasts_the_grace_time_is_given_back_and_said(
    client: SpooledClient, queue: str, fill: Fill, caplog: pytest.LogCaptureFixture
) -> None:
    [job_id] = fill(1)
    began, go_on = threading.Event(), threading.Event()

    def handler(job: Job) -> None:
        began.set()
        go_on.wait(20)

    worker = Worker(client, queue, handler, grace_seconds=0.1).start()
    try:
        assert began.wait(60)
        worker.stop()
        assert worker.join(timeout=60) == WorkerReport(returned=1)
    finally:
        go_on.set()
    job = client.get_job(job_id)
    assert (job.status, job.retry_count) == ("pending", 0)
    assert any(getattr(record, "job_id", "") == job_id for record in caplog.records)


def test_log_lines_name_job_attempt_and_queue_and_hold_no_data(
    client: SpooledClient, server: ServerProcess, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = client.enqueue(queue, {"secret": "payload-4711"}).job_id

    def handler(job: Job) -> None:
        raise ValueError(f"cannot use {job.payload['secret']}")

    with caplog.at_level(logging.DEBUG, "spooled_pipelines"):
        drain(client, queue, handler)
    [failed] = [record for record in caplog.records if hasattr(record, "job_id")]
    line = failed.getMessage()
    assert f"job_id={job_id} attempt=1 queue={queue}" in line
    assert "error=ValueError" in line
    assert "test_working.py" in line
    assert "payload-4711" not in caplog.text
    assert server.api_key not in caplog.text


def test_of_many_failures_of_a_kind_the_first_have_lines_and_the_others_are_counted(
    client: SpooledClient,
    queue: str,
    fill: Fill,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spooled_pipelines.worker.log._SECONDS", 3600)
    fill(25)

    def handler(job: Job) -> None:
        raise KeyError(job.id) if job.payload["n"] == 24 else ValueError(job.id)

    with caplog.at_level(logging.INFO, "spooled_pipelines.worker"):
        drain(client, queue, handler)
    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert sum("job failed job_id=" in line for line in lines) == 21
    (counted,) = [line for line in lines if "job failed, as before: jobs=4" in line]
    assert f"queue={queue} status=retrying error=ValueError at=" in counted


def test_a_wrong_key_ends_the_start_with_its_error(server: ServerProcess, queue: str) -> None:
    worker = Worker(server.address, queue, lambda job: None, api_key="sp_test_wrong")
    with pytest.raises(AuthenticationError):
        worker.start()
    with pytest.raises(AuthenticationError):
        worker.join()
    assert "sp_test_wrong" not in repr(worker)


def test_no_server_ends_the_start_with_its_error(queue: str) -> None:
    with (
        connect("127.0.0.1:1", api_key="sp_test_any", retry=RetryPolicy(max_attempts=1)) as client,
        pytest.raises(UnavailableError),
    ):
        Worker(client, queue, lambda job: None).run()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"concurrency": 0}, "concurrency must be .* got 0"),
        ({"lease_seconds": 4}, "lease_seconds must be .* got 4"),
        ({"worker_id": "a b"}, "worker_id must be .* got 'a b'"),
        ({"queue_name": ".hidden"}, "queue_name must be .* got '.hidden'"),
        ({"grace_seconds": -1}, "grace_seconds must be .* got -1"),
        ({"idle_seconds": 0}, "idle_seconds must be .* got 0"),
    ],
)
def test_a_setting_outside_its_limits_is_refused_with_its_value(
    client: SpooledClient, wrong: dict[str, Any], said: str
) -> None:
    options = {"queue_name": "q", "handler": lambda job: None, **wrong}
    with pytest.raises(InvalidArgumentError, match=said):
        Worker(client, **options)
