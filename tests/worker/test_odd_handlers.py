"""Whatever a handler returns or raises ends its own job, and touches nothing else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest

from spooled_pipelines import Job
from spooled_pipelines.testing import MemoryClient, run_jobs, server
from spooled_pipelines.worker import Worker, WorkerReport, batch_handler
from tests.support import odd_handlers
from tests.support.odd_handlers import CASES, IN_LOOPS, RETURNED, Odd
from tests.support.sampling import sampled

# Not tried again while the test runs.
LEASE = 300
HANDLERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "thread": (odd_handlers.plain, {}),
    "async": (odd_handlers.awaited, {}),
    "process": (odd_handlers.plain, {"executor": "process"}),
    "rows": (odd_handlers.rows, {}),
    "async rows": (odd_handlers.awaited_rows, {}),
    "async in a process": (odd_handlers.awaited, {"executor": "process"}),
}
# What is both has little of its own.
MODES = sampled(HANDLERS, HANDLERS.keys() - {"async in a process"})

# No type would let them through.
ODD: Any = odd_handlers


@dataclass(frozen=True)
class Runs:
    """What became of the jobs: one for each case, and as many others among them."""

    report: WorkerReport
    odd: dict[str, Job]
    others: list[Job]


def run_all(client: MemoryClient, mode: str) -> Runs:
    """Let one worker do all cases, each with a neighbour, and end as it should."""
    handler, options = HANDLERS[mode]
    names = [*CASES, *(IN_LOOPS if "async" in mode else ())]
    odd, others = {}, []
    for n, name in enumerate(names):
        odd[name] = client.enqueue("q", {"case": name, "n": n}).job_id
        others.append(client.enqueue("q", {"n": n}).job_id)
    worker = Worker(
        client, "q", handler, concurrency=2, stop_when_empty=True, lease_seconds=LEASE, **options
    )
    worker.start()
    report = worker.join(120)
    return Runs(
        report,
        {name: client.get_job(job_id) for name, job_id in odd.items()},
        [client.get_job(job_id) for job_id in others],
    )


@pytest.fixture(scope="module")
def runs_of() -> Callable[[str], Runs]:
    """`runs_of("thread")`: the same run, however often it is asked for."""
    done: dict[str, Runs] = {}

    def run(mode: str) -> Runs:
        if mode not in done:
            with server() as client:
                done[mode] = run_all(client, mode)
        return done[mode]

    return run


def check(job: Job, case: Odd, *, in_coroutine: bool) -> None:
    if case.end == "completed":
        assert (job.status, job.result) == ("completed", case.result)
        return
    expected = ("deadletter", 0) if case.end == "dead" else ("pending", 1)
    assert (job.status, job.retry_count, job.result) == (*expected, None)
    # A coroutine cannot raise it: Python itself makes a RuntimeError of it.
    if in_coroutine and case.said in ("StopIteration", "StopAsyncIteration"):
        assert "RuntimeError" in (job.last_error or "") or case.said in (job.last_error or "")
    else:
        assert case.said in (job.last_error or "")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_each_settles_its_job(runs_of: Any, mode: str, name: str) -> None:
    check(runs_of(mode).odd[name], CASES[name], in_coroutine="async" in mode)


@pytest.mark.parametrize(
    "mode", sampled([mode for mode in HANDLERS if "async" in mode], ["async", "async rows"])
)
@pytest.mark.parametrize("name", IN_LOOPS)
def test_what_a_handler_does_to_its_loop_is_its_own(runs_of: Any, mode: str, name: str) -> None:
    job, expected = runs_of(mode).odd[name], IN_LOOPS[name][1]
    if isinstance(expected, str):
        assert (job.status, job.retry_count) == ("pending", 1)
        assert expected in (job.last_error or "")
    else:
        assert (job.status, job.result) == ("completed", expected)


@pytest.mark.parametrize("mode", MODES)
def test_no_other_job_notices_and_the_worker_lives_to_the_end(runs_of: Any, mode: str) -> None:
    runs = runs_of(mode)
    results = [(job.status, job.retry_count, job.result) for job in runs.others]
    assert results == [("completed", 0, {"n": n}) for n in range(len(runs.others))]
    assert runs.report.lost == runs.report.returned == runs.report.abandoned == 0
    assert runs.report.settled == len(runs.odd) + len(runs.others)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_rows_of_one_call_do_not_notice_each_other(spooled_client: MemoryClient, kind: str) -> None:
    names = list(RETURNED)
    ids = [
        spooled_client.enqueue("q", payload).job_id
        for name in names
        for payload in ({"case": name, "n": 0}, {"case": "", "n": 1})
    ]
    options: dict[str, Any] = {"executor": kind, "concurrency": 1, "stop_when_empty": True}
    Worker(spooled_client, "q", ODD.all_rows, **options).start().join(60)
    jobs = [spooled_client.get_job(job_id) for job_id in ids]
    for name, job in zip(names, jobs[::2], strict=True):
        check(job, RETURNED[name], in_coroutine=False)
    assert {(job.status, str(job.result)) for job in jobs[1::2]} == {("completed", "{'n': 1}")}


@pytest.mark.parametrize("mode", ["thread", "async", "rows"])
def test_a_handler_may_use_one_dict_for_all_of_its_results(
    spooled_client: MemoryClient, mode: str
) -> None:
    kept = threading.local()

    def result_of(n: int) -> dict[str, Any]:
        result: dict[str, Any] = kept.__dict__.setdefault("result", {"list": [0]})
        result["n"] = result["list"][0] = n
        return result

    async def awaited(job: Job) -> dict[str, Any]:
        return result_of(job.payload["n"])

    @batch_handler(max_rows=10)
    def rows(batch: pa.RecordBatch) -> list[Any]:
        return Lazily(result_of, batch["n"].to_pylist())

    handlers: dict[str, Any] = {
        "thread": lambda job: result_of(job.payload["n"]),
        "async": awaited,
        "rows": rows,
    }
    ids = [spooled_client.enqueue("q", {"n": n}).job_id for n in range(200)]
    worker = Worker(spooled_client, "q", handlers[mode], concurrency=4, stop_when_empty=True)
    assert worker.run() == WorkerReport(completed=200)
    results = [spooled_client.get_job(job_id).result for job_id in ids]
    assert results == [{"n": n, "list": [n]} for n in range(200)]


class Lazily(list[Any]):
    """A list that makes each of its values when it is read."""

    def __init__(self, make: Any, values: list[int]) -> None:
        super().__init__(values)
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        return map(self._make, super().__iter__())


def test_a_process_that_a_handler_forks_settles_nothing(spooled_client: MemoryClient) -> None:
    ids = [spooled_client.enqueue("q", {"n": n}).job_id for n in range(6)]
    options: dict[str, Any] = {"executor": "process", "concurrency": 1, "stop_when_empty": True}
    worker = Worker(spooled_client, "q", ODD.forks, **options)
    assert worker.start().join(60) == WorkerReport(completed=6)
    results = [spooled_client.get_job(job_id).result for job_id in ids]
    assert results == [{"n": n} for n in range(6)]


@pytest.mark.parametrize("number", range(len(odd_handlers.NO_ROWS)))
def test_a_batch_handler_may_return_anything(spooled_client: MemoryClient, number: int) -> None:
    @batch_handler(max_rows=2)
    def handler(batch: pa.RecordBatch) -> Any:
        return odd_handlers.NO_ROWS[number]()

    ids = [spooled_client.enqueue("q", {}).job_id for _ in range(2)]
    assert Worker(spooled_client, "q", handler, stop_when_empty=True).run().settled == 2
    assert all(spooled_client.get_job(job_id).last_error for job_id in ids)


@pytest.mark.parametrize("name", ["a dict that changes", "sys.exit", "Retry `after` soon"])
def test_inline_runs_settle_them_too(spooled_client: MemoryClient, name: str) -> None:
    for handler in (ODD.plain, ODD.awaited):
        job_id = spooled_client.enqueue("q", {"case": name, "n": 0}).job_id
        run_jobs(handler, "q")
        check(spooled_client.get_job(job_id), CASES[name], in_coroutine=False)


@pytest.mark.parametrize("mode", ["thread", "async"])
def test_a_filter_of_log_lines_that_raises_ends_no_worker(
    spooled_client: MemoryClient, mode: str
) -> None:
    def filtering(record: logging.LogRecord) -> bool:
        raise RuntimeError(record.name)

    ids = [spooled_client.enqueue("q", {"case": "no text", "n": n}).job_id for n in range(2)]
    log = logging.getLogger("spooled_pipelines.worker")
    log.addFilter(filtering)
    try:
        handler, options = HANDLERS[mode]
        worker = Worker(spooled_client, "q", handler, stop_when_empty=True, **options)
        worker.start()
        assert worker.join(60).settled == 2
    finally:
        log.removeFilter(filtering)
    assert {spooled_client.get_job(job_id).retry_count for job_id in ids} == {1}
