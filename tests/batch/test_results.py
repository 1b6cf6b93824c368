"""Results as a stream: in the table's order or as they settled, beside the table, typed."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv, parquet

from spooled_pipelines.batch.decoding.payload_columns import common_type, infer
from spooled_pipelines.batch.outcome import job_results, results
from spooled_pipelines.batch.outcome.job_results import FIELDS_MAX, ResultLookup, ResultStore
from spooled_pipelines.batch.outcome.ledger import SCHEMA as LEDGER
from spooled_pipelines.batch.outcome.ledger import AnyLedger
from spooled_pipelines.batch.outcome.results import ResultOrder, results_reader
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc.struct import from_struct
from spooled_pipelines.wire import spooled_v1
from spooled_pipelines.wire.well_known import Struct
from tests.support.waiting import eventually

Work = Callable[..., int]


def table_of(rows: int) -> pa.Table:
    return pa.table({"n": range(rows), "status": [f"s{n}" for n in range(rows)]})


def test_results_are_a_stream_in_the_order_of_the_rows(door: Any, queue: str, work: Work) -> None:
    order = random.Random(4).sample(range(40), 40)
    rows = [{"n": n} for n in range(40)]
    door.enqueue_batch([rows[n] for n in order], queue)
    batch = door.enqueue_batch(rows, queue)
    done: set[int] = set()

    def handle(payload: dict[str, Any]) -> dict[str, Any]:
        done.add(payload["n"])
        return {"twice": 2 * payload["n"]}

    assert work(queue, handle, limit=30) == 30
    reader = batch.results_reader()
    assert isinstance(reader, pa.RecordBatchReader)
    found = reader.read_all()
    assert found == batch.results()
    assert found["row"].to_pylist() == list(range(40))
    assert found["job_id"] == batch.ledger["job_id"]
    # Rows without an outcome are there, with the status of their jobs.
    assert found["twice"].to_pylist() == [2 * n if n in done else None for n in range(40)]
    assert [s == "completed" for s in found["status"].to_pylist()] == [n in done for n in range(40)]


def test_results_come_as_they_settled(door: Any, queue: str) -> None:
    batch = door.enqueue_batch([{"n": n} for n in range(4)], queue)
    jobs = door.dequeue(queue, "w", batch_size=3)
    for job in reversed(jobs):
        door.complete(job, result={"n": job.payload["n"]})
        # The times that the server keeps are milliseconds.
        now = int(time.time() * 1000)
        eventually(lambda now=now: int(time.time() * 1000) > now)
    found = batch.results(order="settled")
    # On a plain server rows arrive in an order of their own.
    settled = [job.payload["n"] for job in reversed(jobs)]
    assert found["n"].to_pylist() == [*settled, None]
    assert found["row"].to_pylist() == [*settled, *({0, 1, 2, 3} - set(settled))]
    assert found["status"].to_pylist() == ["completed"] * 3 + ["pending"]


def test_results_stand_beside_the_table_where_it_is_given_again(
    door: Any, queue: str, work: Work, tmp_path: Path
) -> None:
    table = table_of(30)
    path = tmp_path / "table.parquet"
    parquet.write_table(table, path, row_group_size=7)
    batch = door.enqueue_batch(path, queue)
    work(queue, lambda payload: {"status": "fine", "double": 2 * payload["n"]})
    for same in (table, path, table.to_pandas(), table.to_pylist()):
        found = batch.results(join=same)
        assert found.column_names == [
            "n",
            "status",
            "row",
            "job_id",
            "job.status",
            "error",
            "double",
            "result.status",
        ]
        assert found["double"].to_pylist() == [2 * n for n in found["n"].to_pylist()]
        assert found["status"].to_pylist() == table["status"].to_pylist()
        assert set(found["job.status"].to_pylist()) == {"completed"}
    for other, text in ((table_of(31), "more rows"), (table_of(29), "fewer rows")):
        with pytest.raises(InvalidArgumentError, match=text):
            batch.results(join=other)


def test_payloads_stand_beside_the_results_from_whatever_process(
    door: Any, queue: str, work: Work, tmp_path: Path
) -> None:
    rows = [{"n": n, "status": f"s{n}", "paid": n > 1, "mixed": [n, "x"][n % 2]} for n in range(4)]
    ledger = str(tmp_path / "ledger.parquet")
    made = door.enqueue_batch(rows, queue, key="n", ledger=ledger)
    work(queue, lambda payload: {"n": payload["n"] * 1.5})
    found = door.batch(made.to_dict()).results(payload=True)
    # A plain server does not keep the table's order, and not its key.
    names = list(rows[0]) if made.changed is not None else sorted(rows[0])
    assert found.schema.names == [*names, "row", "job_id", "job.status", "error", "result.n"]
    assert found.schema.field("paid").type == pa.bool_()
    assert found["n"].to_pylist() == found["row"].to_pylist() == [0, 1, 2, 3]
    assert found["status"].to_pylist() == ["s0", "s1", "s2", "s3"]
    # What has no type in common is JSON text.
    assert found["mixed"].to_pylist() == ["0", '"x"', "2", '"x"']
    assert found["result.n"].to_pylist() == [0.0, 1.5, 3.0, 4.5]
    assert made.results(order="settled", payload=True).num_rows == 4
    with pytest.raises(InvalidArgumentError, match="pass one of them"):
        made.results(join=rows, payload=True)


def test_rows_without_a_job_are_there_too(door: Any, queue: str, work: Work) -> None:
    rows = [{"id": None if n == 2 else n} for n in range(4)]
    batch = door.enqueue_batch(rows, queue, key="id", on_rejected="skip")
    work(queue, lambda payload: {"n": payload["id"]})
    found = batch.results(join=rows)
    assert found["status"].to_pylist() == ["completed", "completed", "rejected", "completed"]
    assert found["error"].to_pylist() == [None, None, "key column 'id' is null", None]
    assert found["n"].to_pylist() == [0, 1, None, 3]


def test_a_schema_says_which_fields_and_of_what_type(door: Any, queue: str, work: Work) -> None:
    batch = door.enqueue_batch([{"n": n} for n in range(3)], queue)
    work(queue, lambda p: {"n": p["n"], "at": f"2026-01-0{p['n'] + 1}", "other": [p["n"]]})
    schema = pa.schema([("at", pa.date32()), ("n", pa.int16()), ("none", pa.string())])
    found = batch.results(schema=schema)
    assert [found.schema.field(name).type for name in schema.names] == schema.types
    assert [str(day) for day in found["at"].to_pylist()] == [f"2026-01-0{n}" for n in (1, 2, 3)]
    assert found.column_names[4:] == schema.names
    assert batch.results(schema={"n": pa.float32()})["n"].to_pylist() == [0, 1, 2]
    with pytest.raises(
        InvalidArgumentError,
        match=r"job \S+ has '2026-01-01' as 'at', and 'at' is not of type int64",
    ):
        batch.results(schema={"at": pa.int64()})


@pytest.mark.parametrize(
    ("value", "arrow_type", "said"),
    [
        (1.5, pa.int64(), "and 'v' is not of type int64"),
        (1e300, pa.float32(), "and 'v' is not of type float"),
        (1.25, pa.decimal128(5, 1), "and 'v' is not of type decimal"),
        (True, pa.int64(), "and 'v' is not of type int64"),
        ([1, 1.5], pa.list_(pa.int64()), "and 'v[1]' is not of type int64"),
        ({"b": 1, "c": 2}, pa.struct([("b", pa.int64())]), "and 'v.c' is not a field of struct"),
    ],
)
def test_what_a_schema_would_change_is_refused_with_the_field(
    door: Any, queue: str, work: Work, value: Any, arrow_type: pa.DataType, said: str
) -> None:
    batch = door.enqueue_batch([{"n": n} for n in range(2)], queue)
    work(queue, lambda payload: {"v": value if payload["n"] else None})
    with pytest.raises(InvalidArgumentError) as refused:
        batch.results(schema={"v": arrow_type})
    assert said in str(refused.value)


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv", "jsonl"])
def test_results_go_to_a_file(
    door: Any, queue: str, work: Work, tmp_path: Path, suffix: str
) -> None:
    batch = door.enqueue_batch([{"n": n} for n in range(5)], queue)
    work(queue, lambda payload: {"n": payload["n"], "list": [payload["n"]]})
    path = tmp_path / f"results.{suffix}"
    assert batch.write_results(path) == 5
    expected = batch.results()
    if suffix == "parquet":
        assert parquet.read_table(path) == expected
    elif suffix == "arrow":
        assert pa.ipc.open_file(path).read_all() == expected
    elif suffix == "csv":
        assert csv.read_csv(path)["list"].to_pylist() == [f"[{n}]" for n in range(5)]
    else:
        assert [json.loads(line) for line in path.read_text().splitlines()] == expected.to_pylist()
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_what_does_not_go_together_is_refused(door: Any, queue: str, tmp_path: Path) -> None:
    batch = door.enqueue_batch([{"n": 1}], queue)
    for arguments, text in (
        ({"order": "row"}, "order must be"),
        ({"join": [{"n": 1}], "order": "settled"}, "order"),
        ({"schema": {"n": "int64"}}, "schema"),
        ({"schema": 5}, "schema"),
    ):
        with pytest.raises(InvalidArgumentError, match=text):
            batch.results(**arguments)
    late = [pa.table({"n": [1]}), pa.table({"n": ["x"]})]
    with pytest.raises(InvalidArgumentError, match=r"'n' of the list is int64 .* string later"):
        door.enqueue_batch(late, queue).results(join=late)
    with pytest.raises(InvalidArgumentError, match="does not know them"):
        door.batch(batch.to_dict()).results(join=[{"n": 1}])
    with pytest.raises(InvalidArgumentError, match="extension"):
        batch.write_results(tmp_path / "results")


# Without a server

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.lists(st.lists(values, min_size=1, max_size=4), min_size=1, max_size=4))
def test_pages_have_one_type_that_holds_all_of_their_values(pages: list[list[Any]]) -> None:
    arrays = [infer(page) for page in pages]
    kind: pa.DataType | None = pa.null()
    for array in arrays:
        kind = None if kind is None or array is None else common_type(kind, array.type)
    if kind is None:
        return
    for page in pages:
        found = pa.array(page, kind).to_pylist()
        for value, back in zip(page, found, strict=True):
            if not isinstance(value, dict | list):
                assert back == value
                assert isinstance(back, str) == isinstance(value, str)
                assert isinstance(back, bool) == isinstance(value, bool)


@pytest.mark.parametrize(
    "page",
    [[0.0, False], [None, False, 0.5], [[0.5], [True]], [{"x": 0.5}, None, {}, {"x": [False]}]],
)
def test_a_bool_among_numbers_does_not_become_a_number(page: list[Any]) -> None:
    assert infer(page) is None
    assert infer([{"deep": [page]}]) is None


def job(number: int, **result: Any) -> spooled_v1.Job:
    made = spooled_v1.Job(id=f"job-{number}", status=spooled_v1.JOB_STATUS_COMPLETED)
    made.result.update(result or {"n": number})
    return made


def result_of(struct: bytes) -> dict[str, Any]:
    return from_struct(Struct.FromString(struct))


class Rows(AnyLedger):
    """A ledger of jobs in this order."""

    def __init__(self, numbers: list[int]) -> None:
        self._numbers = numbers

    def reader(self) -> pa.RecordBatchReader:
        rows = len(self._numbers)
        columns = [range(rows), ["k"] * rows, [f"job-{n}" for n in self._numbers]]
        lines = pa.record_batch([*columns, ["created"] * rows, [None] * rows], schema=LEDGER)
        return pa.RecordBatchReader.from_batches(LEDGER, [lines])


@pytest.mark.parametrize("order", ["input", "settled"])
@pytest.mark.parametrize("rows", [None, Rows(list(range(60))), Rows(list(range(59, -1, -1)))])
def test_large_results_come_in_lots_of_bounded_bytes(
    monkeypatch: pytest.MonkeyPatch, order: ResultOrder, rows: Rows | None
) -> None:
    for module in (job_results, results):
        monkeypatch.setattr(module, "LOT_BYTES", 4_000)
    monkeypatch.setattr(job_results, "_BUFFER_BYTES", 8_000)
    told = ResultStore()
    for number in range(60):
        told.add(job(number, n=number, text="x" * 1_000))
    lots = list(results_reader(told, rows, order))
    assert max(lot.nbytes for lot in lots) < 6_000
    found = pa.Table.from_batches(lots)
    assert [f"job-{n}" for n in found["n"].to_pylist()] == found["job_id"].to_pylist()
    assert sorted(found["n"].to_pylist()) == list(range(60))
    assert set(found["text"].to_pylist()) == {"x" * 1_000}


@pytest.mark.parametrize("nested", [False, True])
def test_ever_new_fields_become_one_column_of_json(nested: bool) -> None:
    told = ResultStore()
    for number in range(FIELDS_MAX + 1):
        fields = {f"field {number}": number}
        told.add(job(number, **({"inside": fields, "n": number} if nested else fields)))
    told.add(spooled_v1.Job(id="without", status=spooled_v1.JOB_STATUS_PENDING))
    found = results_reader(told, None).read_all()
    names = ["inside", "n"] if nested else ["result"]
    assert found.column_names == ["row", "job_id", "status", "error", *names]
    texts = found[names[0]].to_pylist()
    assert texts[17:18] + texts[-1:] == ['{"field 17": 17}', None]
    typed = results_reader(told, None, schema={"field 17": pa.int8()}).read_all()
    assert typed["field 17"].drop_null().to_pylist() == ([] if nested else [17])


@pytest.mark.parametrize("mixed_up", [False, True])
@pytest.mark.parametrize("others", [0, 50])
def test_a_lookup_finds_every_job_in_whatever_order(
    monkeypatch: pytest.MonkeyPatch, mixed_up: bool, others: int
) -> None:
    monkeypatch.setattr(job_results, "_BATCH_ROWS", 10)
    monkeypatch.setattr(job_results, "_BUFFER_ROWS", 40)
    told = ResultStore()
    numbers = list(range(200))
    for number in sorted(numbers + [1000 + n for n in range(others)], key=lambda n: n % 1000):
        told.add(job(number))
    told.finish()
    if mixed_up:
        random.Random(1).shuffle(numbers)
    numbers.insert(120, 9_999)
    numbers.insert(60, 3)
    lookup = ResultLookup(told)
    for start in range(0, len(numbers), 25):
        some = numbers[start : start + 25]
        found = lookup.of(pa.array([f"job-{n}" for n in some] + [None]))
        results = [one and result_of(one)["n"] for one in found["result"].to_pylist()]
        assert results == [None if n == 9_999 else n for n in some] + [None]
