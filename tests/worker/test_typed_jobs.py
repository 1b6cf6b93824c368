"""What came out of a table is the same in a handler: its values, and as rows its types."""

from __future__ import annotations

import datetime as dt
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from spooled_pipelines import SpooledClient
from spooled_pipelines.worker import Worker
from tests.support import typed_handlers

AT = dt.datetime(2013, 1, 31, 5, tzinfo=dt.timezone.utc)


def table(folder: Path, **more: Any) -> pa.Table:
    kinds: dict[str, pa.Array] = {
        "row": pa.array([0, 1], pa.int32()),
        "folder": pa.array([str(folder)] * 2),
        "at": pa.array([AT, None], pa.timestamp("us", "Asia/Tokyo")),
        "ns": pa.array([1, None], pa.timestamp("ns")),
        "day": pa.array([AT.date(), None], pa.date32()),
        "time": pa.array([dt.time(5, 0, 0, 1), None], pa.time64("us")),
        "took": pa.array([dt.timedelta(days=-1, microseconds=5), None], pa.duration("us")),
        "price": pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)),
        "raw": pa.array([b"\xff\x00", None], pa.large_binary()),
        "whole": pa.array([3.0, float("inf")]),
        "small": pa.array([0.1, None], pa.float32()),
        "large": pa.array([2**63 + 1, 2], pa.uint64()),
        "tags": pa.array([[AT.date()], None], pa.list_(pa.date32())),
        "inside": pa.array([{"at": AT}, None], pa.struct([("at", pa.timestamp("s", "UTC"))])),
        "nothing": pa.nulls(2),
    }
    return pa.table({**kinds, **more})


def work(client: SpooledClient, queue: str, handler: Any, **options: Any) -> None:
    report = Worker(client, queue, handler, concurrency=2, stop_when_empty=True, **options).run()
    assert report.completed == report.settled > 0, report


def noted(folder: Path) -> dict[str, Any]:
    return {file.name: pickle.loads(file.read_bytes()) for file in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("handler", "options"),
    [
        (typed_handlers.by_job, {}),
        (typed_handlers.awaited, {}),
        (typed_handlers.by_job, {"executor": "process"}),
    ],
    ids=["thread", "asyncio", "process"],
)
def test_a_job_has_the_values_of_its_row(
    typed_client: SpooledClient, queue: str, tmp_path: Path, handler: Any, options: dict[str, Any]
) -> None:
    rows = table(tmp_path)
    typed_client.enqueue_batch(rows, queue, key="row", on_lossy="string")
    work(typed_client, queue, handler, **options)
    expected = {str(number): row for number, row in enumerate(rows.to_pylist())}
    seen = noted(tmp_path)
    assert seen == expected
    assert [type(value) for value in seen["0"].values()] == [
        type(value) for value in expected["0"].values()
    ]


@pytest.mark.parametrize("executor", ["thread", pytest.param("process", marks=pytest.mark.long)])
def test_rows_are_the_tables_and_those_of_each_table_come_by_themselves(
    typed_client: SpooledClient, queue: str, tmp_path: Path, executor: str
) -> None:
    one = table(tmp_path)
    other = table(
        tmp_path, row=pa.array([2, 3], pa.int32()), day=pa.array(["today", None]), more=[1, 2]
    )
    typed_client.enqueue_batch(one, queue, key="row", on_lossy="string", name="b")
    typed_client.enqueue_batch(other, queue, key="row", on_lossy="string", name="b")
    typed_client.enqueue(queue, {"row": 4, "folder": str(tmp_path), "at": "2013"})
    work(typed_client, queue, typed_handlers.by_rows, executor=executor)
    seen = noted(tmp_path)
    for name, expected in (("rows 0", one), ("rows 2", other)):
        (whole,) = expected.combine_chunks().to_batches()
        names = [name for name in whole.schema.names if name != "nothing"]
        assert seen[name].select(names).equals(whole.select(names))
        assert seen[name].column("nothing").null_count == 2
    # One that came from no table is as JSON has it.
    assert seen["rows 4"].to_pylist() == [{"at": "2013", "folder": str(tmp_path), "row": 4}]


def test_a_dataclass_is_made_of_the_row_or_else_of_the_payload(
    typed_client: SpooledClient, queue: str, tmp_path: Path
) -> None:
    rows = table(tmp_path).slice(0, 1).select(["row", "folder", "at", "day"])
    typed_client.enqueue_batch(rows, queue)
    work(typed_client, queue, typed_handlers.by_dataclass)
    # It wants the day as text, which the payload has.
    (flight,) = noted(tmp_path).values()
    assert flight == typed_handlers.Flight(0, str(tmp_path), AT, "2013-01-31")
