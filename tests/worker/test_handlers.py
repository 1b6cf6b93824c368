"""What a handler may take, return and raise."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, cast

import pyarrow as pa
import pydantic
import pytest

from spooled_pipelines import Job
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.testing import MemoryClient
from spooled_pipelines.worker import Discard, JobContext, Retry, Worker, WorkerReport, batch_handler

Run = Callable[..., WorkerReport]


@dataclass
class Order:
    number: int
    note: str = ""


class Charge(pydantic.BaseModel):
    amount: float
    currency: str = "EUR"


@pytest.fixture
def ids() -> list[str]:
    """Those of the jobs of the last `run`."""
    return []


@pytest.fixture
def run(spooled_client: MemoryClient, ids: list[str]) -> Run:
    """`run(handler, {"n": 1}, ...)`: a worker does jobs with these payloads, then ends."""

    def run(handler: Any, *payloads: dict[str, Any], **options: Any) -> WorkerReport:
        ids[:] = [spooled_client.enqueue("q", payload).job_id for payload in payloads]
        options = {"stop_when_empty": True, "concurrency": 2, **options}
        return Worker(spooled_client, "q", handler, **options).run()

    return run


@pytest.fixture
def jobs(spooled_client: MemoryClient, ids: list[str]) -> Callable[[], list[Job]]:
    return lambda: [spooled_client.get_job(job_id) for job_id in ids]


def of_dataclass(order: Order) -> dict[str, Any]:
    assert isinstance(order, Order)
    return {"number": order.number}


def of_model(charge: Charge) -> Charge:
    return Charge(amount=charge.amount * 2, currency=charge.currency)


def of_context(context: JobContext) -> dict[str, Any]:
    assert not context.cancelled
    return {"number": context.job.payload["number"]}


def of_payload_and_context(order: Order, context: JobContext) -> dict[str, Any]:
    return {"number": order.number, "of": context.job.queue_name}


async def of_both(job: Job, payload: dict[str, Any]) -> dict[str, Any]:
    return {"of": job.queue_name, "number": payload["number"]}


def of_nothing_said(job: Any):  # type: ignore[no-untyped-def]
    return {"number": job.payload["number"]}


@pytest.mark.parametrize(
    ("handler", "payload", "result"),
    [
        (of_dataclass, {"number": 3}, {"number": 3}),
        (of_model, {"amount": 1.5}, {"amount": 3, "currency": "EUR"}),
        (of_both, {"number": 4}, {"of": "q", "number": 4}),
        (of_nothing_said, {"number": 5}, {"number": 5}),
        (of_context, {"number": 6}, {"number": 6}),
        (of_payload_and_context, {"number": 7}, {"number": 7, "of": "q"}),
        (partial(lambda plus, job: {"n": plus + job.payload["n"]}, 1), {"n": 1}, {"n": 2}),
    ],
)
def test_a_handler_gets_the_job_or_what_its_payload_is(
    run: Run, jobs: Any, handler: Any, payload: Any, result: Any
) -> None:
    assert run(handler, payload) == WorkerReport(completed=1)
    assert jobs()[0].result == result


def test_a_payload_that_does_not_fit_is_dead_at_once_with_the_field_and_without_its_value(
    run: Run, jobs: Any
) -> None:
    assert run(of_dataclass, {"number": "secret-4711"}, {"n": 1}) == WorkerReport(deadletter=2)
    wrong, missing = (job.last_error for job in jobs())
    assert "does not fit Order: number:" in wrong
    assert "secret-4711" not in wrong
    assert "number: Field required" in missing
    assert [job.retry_count for job in jobs()] == [0, 0]


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (Order(1, "x"), {"number": 1, "note": "x"}),
        (Charge(amount=2.5), {"amount": 2.5, "currency": "EUR"}),
        (pa.table({"a": [7]}), {"a": 7}),
        (pa.array([{"a": 8}])[0], {"a": 8}),
    ],
)
def test_results_may_be_what_holds_fields(run: Run, jobs: Any, value: Any, result: Any) -> None:
    assert run(lambda job: value, {}) == WorkerReport(completed=1)
    assert jobs()[0].result == result


def test_retry_says_when_and_discard_says_never(
    run: Run, jobs: Any, spooled_client: MemoryClient
) -> None:
    def handler(job: Job) -> None:
        if job.payload["n"] == 0:
            raise Retry("the bank is closed", after=timedelta(hours=8))
        raise Discard("no such account")

    assert run(handler, {"n": 0}, {"n": 1}) == WorkerReport(retrying=1, deadletter=1)
    later, dead = jobs()
    assert (later.last_error, later.retry_count) == ("the bank is closed", 1)
    assert (dead.status, dead.last_error) == ("deadletter", "no such account")
    # Time goes by beside what is skipped.
    spooled_client.skip(8 * 3_600 - 300)
    assert spooled_client.dequeue("q", "w") == []
    spooled_client.skip(300)
    assert [job.id for job in spooled_client.dequeue("q", "w")] == [later.id]


def test_a_pause_beyond_its_limits_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        Retry(after=-1)
    with pytest.raises(ValueError, match="30 days"):
        Retry(after=timedelta(days=31))


@pytest.mark.parametrize(
    ("rules", "error", "retried"),
    [
        ({}, KeyError("k"), True),
        ({"discard_on": [KeyError]}, KeyError("k"), False),
        ({"discard_on": [LookupError]}, KeyError("k"), False),
        ({"retry_on": [TimeoutError]}, TimeoutError("t"), True),
        ({"retry_on": [TimeoutError]}, KeyError("k"), False),
        # The nearest class counts.
        ({"retry_on": [KeyError], "discard_on": [Exception]}, KeyError("k"), True),
        ({"retry_on": [Exception], "discard_on": [KeyError]}, KeyError("k"), False),
    ],
)
def test_exceptions_decide_by_the_nearest_class_that_is_named(
    run: Run, rules: dict[str, Any], error: Exception, retried: bool
) -> None:
    def handler(job: Job) -> None:
        raise error

    report = run(handler, {}, **rules)
    assert report == (WorkerReport(retrying=1) if retried else WorkerReport(deadletter=1))


def test_a_batch_handler_gets_rows_and_tells_the_outcome_of_each(run: Run, jobs: Any) -> None:
    calls: list[int] = []

    @batch_handler(max_rows=100, max_wait=0.2)
    def handler(rows: pa.RecordBatch) -> list[Any]:
        calls.append(rows.num_rows)
        outcomes: list[Any] = [{"doubled": n * 2} for n in rows["n"].to_pylist()]
        outcomes[1] = Discard("odd one")
        outcomes[2] = Retry("later", after=5)
        outcomes[3] = ValueError("broken")
        outcomes[4] = None
        outcomes[5] = {"id": 2**60}
        return outcomes

    report = run(handler, *({"n": n} for n in range(10)))
    assert report == WorkerReport(completed=6, retrying=2, deadletter=2)
    assert calls == [10]
    assert [job.result for job in jobs()][6:] == [{"doubled": 2 * n} for n in range(6, 10)]


async def doubled(rows: pa.RecordBatch, batch_of: list[Job]) -> pa.RecordBatch:
    assert [job.payload["n"] for job in batch_of] == rows["n"].to_pylist()
    return pa.record_batch({"doubled": [n * 2 for n in rows["n"].to_pylist()]})


def test_a_batch_handler_gets_contexts_where_it_asks_for_them(run: Run, jobs: Any) -> None:
    @batch_handler(max_wait=0.2)
    def handler(rows: pa.RecordBatch, contexts: list[JobContext]) -> list[Any]:
        assert not any(context.cancelled for context in contexts)
        return [{"n": context.job.payload["n"]} for context in contexts]

    assert run(handler, {"n": 1}, {"n": 2}) == WorkerReport(completed=2)
    assert [job.result for job in jobs()] == [{"n": 1}, {"n": 2}]


def test_a_traceback_begins_with_the_handler(run: Run, jobs: Any) -> None:
    def handler(order: Order, context: JobContext) -> None:
        raise ValueError("no stock")

    assert run(handler, {"number": 1}) == WorkerReport(retrying=1)
    [job] = jobs()
    head, frame, *_ = (job.last_error or "").splitlines()
    assert head == "ValueError: no stock"
    assert "test_handlers.py" in frame


@pytest.mark.parametrize("count", [1, 25])
def test_rows_come_in_calls_of_at_most_so_many(
    spooled_client: MemoryClient, run: Run, jobs: Any, count: int
) -> None:
    worker = Worker(spooled_client, "q", stop_when_empty=True, concurrency=3)
    worker.batch_handler(max_rows=7, max_wait=0.05)(doubled)
    ids = [spooled_client.enqueue("q", {"n": n}).job_id for n in range(count)]
    assert worker.run() == WorkerReport(completed=count)
    results = [spooled_client.get_job(job_id).result for job_id in ids]
    assert results == [{"doubled": 2 * n} for n in range(count)]


def test_rows_that_do_not_go_together_come_in_several_calls(run: Run, jobs: Any) -> None:
    @batch_handler(max_wait=0.2)
    def handler(rows: pa.RecordBatch) -> pa.RecordBatch:
        return pa.record_batch({"type": [str(rows.schema.field("a").type)] * rows.num_rows})

    payloads = [{"a": 1}, {"a": 2}, {"a": "x"}, {"a": [1]}]
    assert run(handler, *payloads) == WorkerReport(completed=4)
    kinds = [job.result["type"] for job in jobs()]
    assert kinds[:3] == ["int64", "int64", "string"]
    assert kinds[3].startswith("list")


def test_a_payload_that_does_not_fit_the_schema_is_dead_alone(run: Run, jobs: Any) -> None:
    @batch_handler(max_wait=0.2, schema=pa.schema([("a", pa.int64())]))
    def handler(rows: pa.RecordBatch) -> None:
        assert rows.schema.names == ["a"]

    report = run(handler, {"a": 1}, {"a": "x"}, {"a": 3}, {})
    assert report == WorkerReport(completed=3, deadletter=1)
    assert "does not fit a row" in jobs()[1].last_error


@pytest.mark.parametrize(
    "values",
    [
        [0.5, True],
        [True, 0.5],
        [1.5, False, 2.5, None],
        [{"x": 0.5}, {"x": True}],
        [[0.5], [True]],
        [1, True],
        [1, "x"],
        [2.5, 0.5],
    ],
)
def test_a_batch_handler_gets_every_value_as_it_is(run: Run, jobs: Any, values: list[Any]) -> None:
    @batch_handler(max_wait=0.2)
    def handler(rows: pa.RecordBatch) -> list[Any]:
        return [{"v": value} for value in rows["v"].to_pylist()]

    assert run(handler, *({"v": value} for value in values)).completed == len(values)
    found = [job.result["v"] for job in jobs()]
    # Else 1.0 would pass for true.
    assert json.dumps(found) == json.dumps(values)


def test_a_payload_that_no_row_can_hold_is_dead_with_the_place(run: Run, jobs: Any) -> None:
    @batch_handler(max_wait=0.2)
    def handler(rows: pa.RecordBatch) -> None:
        assert rows.num_rows == 1

    assert run(handler, {"v": [0.5, True]}, {"v": [1]}) == WorkerReport(completed=1, deadletter=1)
    assert "v[] holds true or false beside numbers" in jobs()[0].last_error


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"a": 1e300}, "a is not of type float"),
        ({"a": True}, "a is not of type float"),
        ({"a": 2**24 + 1}, "a is not of type float"),
        ({"b": 1.5}, "b is not of type int64"),
        ({"c": {"d": 1, "e": 2}}, "c.e is not a field of struct<d: int64>"),
        ({"c": {"d": 1.5}}, "c.d is not of type int64"),
    ],
)
def test_what_a_schema_would_change_is_dead_alone_with_the_field(
    run: Run, jobs: Any, payload: dict[str, Any], said: str
) -> None:
    c = pa.struct([("d", pa.int64())])
    schema = pa.schema([("a", pa.float32()), ("b", pa.int64()), ("c", c)])

    @batch_handler(max_wait=0.2, schema=schema)
    def handler(rows: pa.RecordBatch) -> list[Any]:
        assert rows.schema == schema
        return [{"a": a} for a in rows["a"].to_pylist()]

    fits = {"a": 0.25, "b": 1, "c": {}, "beside the schema": 1}
    assert run(handler, payload, fits) == WorkerReport(completed=1, deadletter=1)
    dead, done = jobs()
    assert said in dead.last_error
    assert done.result == {"a": 0.25}


@pytest.mark.parametrize(
    ("value", "said"),
    [([{}], "returned 1 outcomes for 2 rows"), ("no rows", "returned a str for 2 rows")],
)
def test_outcomes_that_do_not_match_the_rows_fail_them_once(
    run: Run, jobs: Any, value: Any, said: str
) -> None:
    @batch_handler(max_wait=0.2)
    def handler(rows: pa.RecordBatch) -> Any:
        return value

    assert run(handler, {"a": 1}, {"a": 2}) == WorkerReport(deadletter=2)
    assert said in jobs()[0].last_error


def test_what_a_batch_handler_raises_fails_every_row(run: Run) -> None:
    @batch_handler(max_wait=0.2)
    def handler(rows: pa.RecordBatch) -> Any:
        raise RuntimeError("the model is not loaded")

    assert run(handler, {"a": 1}, {"a": 2}) == WorkerReport(retrying=2)


def test_a_worker_without_a_handler_says_so(spooled_client: MemoryClient) -> None:
    with pytest.raises(InvalidArgumentError, match="no handler"):
        Worker(spooled_client, "q").run()
    with pytest.raises(TypeError, match="must be a function"):
        Worker(spooled_client, "q", cast("Any", "handlers:score"))
    with pytest.raises(InvalidArgumentError, match=r"max_rows must be .* got 0"):
        batch_handler(max_rows=0)


def test_inline_runs_take_the_same_handlers(
    spooled_client: MemoryClient, spooled_run_jobs: Any
) -> None:
    for n in range(5):
        spooled_client.enqueue("rows", {"n": n})
        spooled_client.enqueue("orders", {"number": n})
    runs = spooled_run_jobs(batch_handler(max_rows=3)(doubled), "rows")
    assert [each.job.result for each in runs] == [{"doubled": 2 * n} for n in range(5)]
    runs = spooled_run_jobs(of_dataclass, "orders")
    assert [each.job.result for each in runs] == [{"number": n} for n in range(5)]
