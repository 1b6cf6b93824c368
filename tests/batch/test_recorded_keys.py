"""Keys, batch ids and bytes on the wire are the ones that were recorded.

A key that changes makes every re-run enqueue its rows a second time, so a difference here is a
break for users and never a matter of style. `python tests/batch/test_recorded_keys.py` adds the
record of a new case; it leaves the records that exist alone.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import math
import random
import sys
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow as pa
import pytest

from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.batch.staging.chunks import shared_fields
from spooled_pipelines.batch.staging.prepare import prepare

_RECORD = Path(__file__).with_name("recorded_keys.json")
_UTC = dt.timezone.utc
_START = dt.datetime(2024, 2, 29, 12, 30, 15, 250_000, _UTC)


def _numbers() -> pa.Table:
    return pa.table(
        {
            "int8": pa.array([-128, None, 127, 0], pa.int8()),
            "uint16": pa.array([0, 65_535, None, 7], pa.uint16()),
            "int64": pa.array([-(2**53), 2**53, 1, None], pa.int64()),
            "float32": pa.array([0.5, -0.0, math.nan, None], pa.float32()),
            "float64": pa.array([0.1, 1e300, None, -2.5], pa.float64()),
            "decimal": pa.array([Decimal("1.50"), Decimal("-0.00"), None, Decimal(3)]),
            "bool": pa.array([True, False, None, True]),
            "null": pa.nulls(4),
            "constant": pa.array([1, 1, 1, 1]),
        }
    )


def _texts() -> pa.Table:
    long = "x" * 300
    values = ["", "Zürich", None, long]
    return pa.table(
        {
            "text": values,
            "large": pa.array(values, pa.large_string()),
            "category": pa.array(["a", "b", "a", None]).dictionary_encode(),
            "uuid": pa.array([uuid.UUID(int=n).bytes for n in range(3)] + [None], pa.uuid()),
            "json": pa.ExtensionArray.from_storage(
                pa.json_(pa.string()),
                pa.array(['{"b": [1, "x", null], "a": {"c": 1.5}}', "[]", None, '"text"']),
            ),
            "Ünï 'codé'": ["a", "b", "c", "d"],
        }
    )


def _times() -> pa.Table:
    micros = [_START, None, dt.datetime(1969, 12, 31, 23, 59, 59, tzinfo=_UTC)]
    return pa.table(
        {
            "seconds": pa.array([0, None, 86_399], pa.timestamp("s")),
            "zoned": pa.array(micros, pa.timestamp("us", "Europe/Zurich")),
            "nanoseconds": pa.array([1, 1_000, None], pa.timestamp("ns", "UTC")),
            "date": pa.array([dt.date(2013, 1, 1), None, dt.date(1, 1, 1)]),
            "time": pa.array([dt.time(5), None, dt.time(23, 59, 59, 1)]),
            "duration": pa.array([dt.timedelta(days=1, hours=2), None, -dt.timedelta(0, 1, 5)]),
        }
    )


def _nested() -> pa.Table:
    structs = [{"b": 1, "a": ["x", None]}, None, {"b": None, "a": []}, {"b": 4, "a": None}]
    return pa.table(
        {
            "struct": structs,
            "list": [[1, 2], [], None, [None]],
            "deep": [[[1], []], None, [[2, 3]], []],
            "fixed": pa.array([[1, 2], None, [3, 4], [5, None]], pa.list_(pa.int32(), 2)),
            "map": pa.array(
                [[("k", 1), ("a", None)], [], None, [("z", 5)]], pa.map_(pa.string(), pa.int64())
            ),
        }
    )


def _lossy() -> pa.Table:
    return pa.table(
        {
            "n": [2**60, 1, None],
            "f": [math.inf, 1.0, -math.inf],
            "b": pa.array([b"\x00\xff", b"", None], pa.binary()),
            "t": pa.array([2**62, 0, None], pa.timestamp("s")),
        }
    )


def _jobs() -> pa.Table:
    return pa.table(
        {
            "id": [1, 2, 3, 3, 1],
            "priority": [5, None, -100, 100, 0],
            "retries": [1.0, math.nan, 3.0, 4.0, 5.0],
            "due": pa.array([_START, None, _START, _START, None], pa.timestamp("ns", "UTC")),
            "carrier": ["UA", None, "AA", "AA", "UA"],
            "payload": ['{"x": 1}', '{"y": {"z": [null]}}', "{}", '{"x": 1.0}', '{"s": "é"}'],
            "tags": pa.array(
                [[("a", "1")], None, [("b", "2"), ("a", None)], [], [("c", "é")]],
                pa.map_(pa.string(), pa.string()),
            ),
        }
    )


def _repeated() -> list[dict[str, Any]]:
    return [{"n": n % 3, "text": str(n % 2)} for n in range(20)]


def _unlike_objects() -> list[dict[str, Any]]:
    return [
        {"value": {"a": 1}, "list": [1, "x"]},
        {"value": {"b": dt.date(2024, 1, 1), "c": Decimal("1.10")}, "list": [None]},
        {"value": None, "list": [{"d": dt.timedelta(1)}, True, 1.5]},
    ]


def _frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "n": pd.array([1, None, 3], "Int64"),
            "f": [1.0, math.nan, 2.5],
            "s": ["a", None, "c"],
            "t": pd.to_datetime(
                cast("Any", ["2024-01-01T00:00:00.0", None, "2024-01-01T05:00:00.5"])
            ),
            "c": pd.Categorical(["x", "y", "x"]),
        }
    )


def _many() -> pa.Table:
    draw = random.Random(14)
    count = 25_000
    return pa.table(
        {
            "n": [draw.randrange(20_000) for _ in range(count)],
            "text": ["t" * draw.randrange(12) for _ in range(count)],
        }
    )


def _payload_of(record_batch: pa.RecordBatch) -> pa.RecordBatch:
    doubled = [2 * n for n in record_batch.column("id").to_pylist()]
    return pa.record_batch({"double": doubled, "carrier": record_batch.column("carrier")})


_Case = tuple[Callable[[], Any], dict[str, Any]]
CASES: dict[str, _Case] = {
    "numbers": (_numbers, {}),
    "texts": (_texts, {}),
    "times": (_times, {}),
    "nested": (_nested, {}),
    "lossy as text": (_lossy, {"on_lossy": "string"}),
    "lossy as null": (_lossy, {"on_lossy": "null"}),
    "lossy as null, with a key": (
        _lossy,
        {"on_lossy": "null", "key": ["n", "f"], "on_rejected": "skip"},
    ),
    "lossy by column": (
        _lossy,
        {"on_lossy": {"n": "string", "f": "null", "b": "string", "t": "string"}},
    ),
    "a name": (_numbers, {"name": "january"}),
    "a part": (_numbers, {"name": "january", "part_id": "1"}),
    "a key": (_jobs, {"key": ["id", "carrier"], "on_rejected": "skip", "name": "january"}),
    "a key in a part": (_jobs, {"key": "id", "name": "january", "part_id": "1"}),
    "columns of a job": (
        _jobs,
        {
            "priority": "priority",
            "max_retries": "retries",
            "scheduled_at": "due",
            "tags": "tags",
            "timeout_seconds": 60,
        },
    ),
    "constants of a job": (
        _jobs,
        {"priority": 7, "scheduled_at": _START, "tags": {"team": "é"}, "max_retries": 3},
    ),
    "tags by column": (_jobs, {"tags": ["carrier"]}),
    "a payload of columns": (_jobs, {"payload": {"flight": "id", "by": "carrier"}}),
    "a payload of JSON texts": (_jobs, {"payload": "payload"}),
    "a payload of structs": (_nested, {"payload": "struct", "on_rejected": "skip"}),
    "a payload of maps": (_nested, {"payload": "map", "on_rejected": "skip"}),
    "a payload from a function": (_jobs, {"payload": _payload_of, "key": "id"}),
    "spread": (_jobs, {"spread": dt.timedelta(hours=1), "scheduled_at": _START}),
    "rate": (_jobs, {"rate": 3, "scheduled_at": _START}),
    "equal rows": (_repeated, {}),
    "objects that differ": (_unlike_objects, {}),
    "pandas": (_frame, {}),
    "many rows": (_many, {}),
    "many rows, some of them": (_many, {"columns": ["n"], "where": [("n", "<", 5_000)]}),
}


def _record_of(case: str) -> dict[str, Any]:
    make, options = CASES[case]
    staged = prepare(make(), "flights", RowOptions(**options))
    try:
        chunks = list(staged.chunks())
        keys = [key.decode() for chunk in chunks for key in chunk.keys.to_pylist()]
        later = [
            key.decode() for chunk in staged.chunks(generation=2) for key in chunk.keys.to_pylist()
        ]
        messages = [chunk.message() for chunk in chunks]
        shared = shared_fields("flights", staged.constants)
        requests = [request for chunk in chunks for request in chunk.requests(shared)]
        return {
            "batch_id": staged.batch_id,
            "rows": [row for chunk in chunks for row in chunk.rows.to_pylist()][:40],
            "keys": keys[:40],
            "all_keys": _digest([key.encode() for key in keys]),
            "keys_of_generation_2": _digest([key.encode() for key in later]),
            "messages": [
                base64.b64encode(message).decode() if len(message) < 4_000 else _digest([message])
                for message in messages
            ],
            "requests": _digest(requests),
        }
    finally:
        staged.close()


def _digest(texts: list[bytes]) -> str:
    return hashlib.sha256(b"\n".join(texts)).hexdigest()


@pytest.mark.parametrize("case", CASES)
def test_keys_batch_ids_and_bytes_are_as_recorded(case: str) -> None:
    assert _record_of(case) == json.loads(_RECORD.read_text())[case]


def _add_new_cases() -> None:
    record = json.loads(_RECORD.read_text()) if _RECORD.exists() else {}
    for case in CASES:
        if case not in record:
            record[case] = _record_of(case)
            sys.stdout.write(f"recorded: {case}\n")
    _RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    _add_new_cases()
