"""Results that come as Arrow keep their types for every reader; what does not fit is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from spooled_pipelines import SpooledClient
from spooled_pipelines.worker import Worker, batch_handler
from tests.support import typed_handlers
from tests.support.arrow_strategies import LOSSY_COLUMNS, check_same, tables


def work(client: SpooledClient, queue: str, handler: Any, **options: Any) -> None:
    Worker(client, queue, handler, stop_when_empty=True, **options).run()


@batch_handler(max_wait=0)
def echo(rows: pa.RecordBatch) -> pa.RecordBatch:
    return rows


@settings(
    max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(tables(LOSSY_COLUMNS))
def test_any_table_comes_back_as_results_and_as_payloads(
    typed_client: SpooledClient, table: pa.Table
) -> None:
    queue = f"q-{uuid4().hex[:12]}"
    batch = typed_client.enqueue_batch(table, queue, on_lossy="string")
    work(typed_client, queue, echo)
    results = batch.results(payload=True)
    assert set(results["status"].to_pylist()) == {"completed"}
    for name in table.column_names:
        column = table[name]
        result = f"result.{name}" if f"result.{name}" in results.column_names else name
        for found in {name, result}:
            array = results[found].combine_chunks()
            is_json = isinstance(column.type, pa.JsonType) or pa.types.is_string(array.type)
            if pa.types.is_null(array.type) or (is_json and not pa.types.is_string(column.type)):
                # Nulls alone, or the values of several types.
                continue
            check_same(array, column)


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_row_of_arrow_keeps_its_types_for_everybody(
    typed_client: SpooledClient, queue: str, executor: str
) -> None:
    rows = [{"at": typed_handlers.AT, "id": n} for n in range(2)]
    batch = typed_client.enqueue_batch(rows, queue, key="id")
    work(typed_client, queue, typed_handlers.one_row, executor=executor, concurrency=1)
    elsewhere = typed_client.batch(batch.id).results(payload=True)
    names = ["id", "at", "row", "job_id", "status", "error", "result.at", "raw", "large"]
    assert elsewhere.column_names == names
    kinds = [pa.int64(), pa.timestamp("us", "UTC")]
    assert [elsewhere.schema.field(name).type for name in ("id", "at")] == kinds
    results = batch.results().select(["row", "at", "raw", "large"])
    expected = {"at": typed_handlers.AT, "raw": b"\xff", "large": 2**60}
    assert results.to_pylist() == [{"row": number, **expected} for number in range(2)]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "arrow"])
def test_typed_results_go_to_every_kind_of_file(
    spooled_client: Any, queue: str, tmp_path: Path, suffix: str
) -> None:
    values = {
        "at": pa.array([typed_handlers.AT], pa.timestamp("us", "UTC")),
        "raw": pa.array([b"\xff\x00"], pa.binary_view()),
        "took": pa.array([90], pa.duration("s")),
        "price": pa.array([Decimal("1.50")], pa.decimal128(9, 2)),
        "text": pa.array(["=1"], pa.string_view()),
        "id": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16)], pa.binary(16))),
        "parts": pa.array([[{"raw": b"\xff", "took": timedelta(seconds=1)}]]),
    }
    batch = spooled_client.enqueue_batch([{"n": 0}], queue)
    handler = batch_handler(lambda rows: pa.record_batch(values))
    work(spooled_client, queue, handler)
    path = tmp_path / f"results.{suffix}"
    assert batch.write_results(path, payload=True) == 1
    if suffix == "jsonl":
        line = json.loads(path.read_text())
        assert {name: line[name] for name in values} == {
            "at": "2013-01-31T05:00:00+00:00",
            "raw": "/wA=",
            "took": "P0DT0H1M30S",
            "price": "1.50",
            "text": "=1",
            "id": str(UUID(int=0)),
            "parts": [{"raw": "/w==", "took": "P0DT0H0M1S"}],
        }
    if suffix == "csv":
        text = path.read_text()
        for shown in ("/wA=", "P0DT0H1M30S", "1.50", "'=1", str(UUID(int=0)), "/w=="):
            assert shown in text, text


def later(*given: Any) -> Callable[[pa.RecordBatch], Any]:
    """A handler of one row that returns these, one after the other."""
    left = list(given)

    @batch_handler(max_rows=1, max_wait=0)
    def handler(rows: pa.RecordBatch) -> Any:
        value = left.pop(0)
        return [value] if isinstance(value, dict) else pa.record_batch({"v": value})

    return handler


@pytest.mark.parametrize(
    ("first", "others", "fit"),
    [
        (pa.array([1]), [pa.array([2.0]), {"v": 3}, pa.array([1.5]), {"v": 1.5}], 3),
        (pa.array([1.5]), [pa.array([2]), {"v": 3}, pa.array([2**60 + 1]), {"v": "x"}], 3),
        (pa.array(["a"]), [pa.array(["b"], pa.large_string()), pa.array([b"x"]), {"v": 1}], 2),
        (pa.array([0], pa.timestamp("s")), [pa.array([1_000], pa.timestamp("ms"))], 2),
        (pa.array([0], pa.timestamp("s")), [pa.array([1], pa.timestamp("ms"))], 1),
        (pa.array([0], pa.timestamp("s")), [pa.array([0], pa.timestamp("s", "UTC"))], 1),
        (pa.nulls(1), [pa.array([1]), pa.array([b"x"])], 2),
        (pa.array([[1.5]]), [pa.array([[2]]), pa.array([[]]), pa.array([[2**60 + 1]])], 3),
        (pa.array([{"x": 1}]), [pa.array([{"x": None}]), pa.array([{"x": 1.5}])], 2),
        (pa.array([[1.5]], pa.list_(pa.float32())), [{"v": [0.25]}, {"v": [0.1]}], 2),
        (
            pa.array([{"x": [1.5]}], pa.struct({"x": pa.list_(pa.float32())})),
            [{"v": {"x": [0.5, None]}}, {"v": {"x": [0.5, 0.1]}}],
            2,
        ),
        (
            pa.array([[0]], pa.list_(pa.timestamp("us"))),
            [{"v": ["12000-01-01T00:00:00"]}, {"v": ["no time"]}],
            2,
        ),
    ],
)
def test_what_does_not_fit_to_the_first_is_refused_by_its_field(
    spooled_client: Any, queue: str, first: pa.Array, others: list[Any], fit: int
) -> None:
    rows = [{"n": n} for n in range(1 + len(others))]
    batch = spooled_client.enqueue_batch(rows, queue, key="n")
    work(spooled_client, queue, later(first, *others), concurrency=1)
    results = batch.results()
    states = results["status"].to_pylist()
    assert states == ["completed"] * fit + ["deadletter"] * (len(rows) - fit)
    for error in filter(None, results["error"].to_pylist()):
        assert error.startswith("the result does not fit: field 'v'"), error
    if not pa.types.is_null(first.type):
        assert results.schema.field("v").type == first.type


def test_a_list_of_nothing_says_nothing_of_what_others_hold(
    spooled_client: Any, queue: str
) -> None:
    given = [[[]], [[1]], [[None]]]
    batch = spooled_client.enqueue_batch([{"n": n} for n in range(3)], queue, key="n")
    work(spooled_client, queue, later(*map(pa.array, given)), concurrency=1)
    assert batch.results()["v"].to_pylist() == [[], [1], [None]]


@pytest.mark.parametrize("form", [pa.RecordBatch.from_arrays, pa.table])
def test_two_columns_of_one_name_are_refused(spooled_client: Any, queue: str, form: Any) -> None:
    batch = spooled_client.enqueue_batch([{"n": 0}], queue)
    twice = form([pa.array([1]), pa.array([2])], names=["v", "v"])
    work(spooled_client, queue, batch_handler(lambda rows: twice))
    assert "two columns named 'v'" in batch.results()["error"][0].as_py()


def test_numbers_that_were_rounded_to_the_end_of_their_type_are_read_back(
    spooled_client: Any, queue: str
) -> None:
    ends = {"a": pa.array([2**63 - 1, -(2**63)]), "b": pa.array([2**64 - 1, 0], pa.uint64())}
    table = pa.table({**ends, "c": pa.array([[2**63 - 1], None])})
    batch = spooled_client.enqueue_batch(table, queue, on_lossy="round", key="b")
    jobs = [spooled_client.get_job(each.as_py()).row for each in batch.ledger["job_id"]]
    work(spooled_client, queue, echo)
    results = batch.results(payload=True)
    assert results.select(["a", "b", "c"]).to_pylist() == jobs == table.to_pylist()
    assert results["result.a"].combine_chunks() == ends["a"]


def test_a_schema_leaves_no_part_of_a_value_out(spooled_client: Any, queue: str) -> None:
    moments = pa.array([0, 5], pa.timestamp("s"))
    batch = spooled_client.enqueue_batch(pa.table({"at": moments}), queue)
    handler = batch_handler(max_rows=1, schema=pa.schema([("at", pa.date32())]))
    work(spooled_client, queue, handler(lambda rows: None))
    assert batch.results()["status"].to_pylist() == ["completed", "deadletter"]


def test_a_job_that_came_from_no_table_has_results_as_json_has_them(
    spooled_client: Any, queue: str
) -> None:
    job_id = spooled_client.enqueue(queue, {"x": 1}).job_id
    work(spooled_client, queue, later(pa.array([typed_handlers.AT])))
    assert spooled_client.get_job(job_id).result == {"v": "2013-01-31T05:00:00Z"}
