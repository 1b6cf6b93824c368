"""A payload is made per row: values of different types in one column arrive each as it is."""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from google.protobuf.struct_pb2 import Value

from spooled_pipelines import errors
from spooled_pipelines.batch.encoding.json_values import encode_json
from spooled_pipelines.batch.encoding.protobuf_wire import VALUE_NULL
from spooled_pipelines.batch.encoding.value_context import ValueContext
from spooled_pipelines.batch.encoding.values import encode_values
from spooled_pipelines.batch.source.python_values import to_array
from spooled_pipelines.testing import MemoryClient, server

MIXED = [1, "x", None, 2.5, [1, "y"], {"k": {"l": None}}, True, 2**53]


@pytest.fixture(scope="module")
def client() -> Iterator[MemoryClient]:
    with server() as client:
        yield client


def arrived(client: MemoryClient, data: Any, **options: Any) -> list[Any]:
    """The column `a` of each job, in the order of the rows."""
    queue = f"q-{uuid.uuid4().hex}"
    batch = client.enqueue_batch(data, queue, **options)
    jobs = {job.id: job for job in client.dequeue(queue, "w", batch_size=100)}
    return [jobs[job_id].payload["a"] for job_id in batch.ledger.column("job_id").to_pylist()]


@pytest.mark.parametrize("how", ["dicts", "pandas", "jsonl", "json"])
def test_each_value_of_a_mixed_column_arrives_as_it_is(
    client: MemoryClient, tmp_path: Path, how: str
) -> None:
    rows = [{"n": number, "a": value} for number, value in enumerate(MIXED)]
    data: Any = rows
    if how == "pandas":
        data = pd.DataFrame({"n": range(len(MIXED)), "a": pd.Series(MIXED, dtype=object)})
    elif how == "jsonl":
        data = tmp_path / "t.jsonl"
        data.write_text("\n".join(map(json.dumps, rows)))
    elif how == "json":
        data = tmp_path / "t.json"
        data.write_text(json.dumps(rows))
    assert arrived(client, data, key="n") == MIXED


@pytest.mark.parametrize("missing", [float("nan"), pd.NA, pd.NaT, np.float64("nan")])
@pytest.mark.parametrize("value", ["x", True, dt.date(2024, 1, 31), 1, Decimal("1.5")])
def test_what_pandas_has_for_no_value_is_null_among_values_of_any_type(
    client: MemoryClient, missing: Any, value: Any
) -> None:
    rows = [{"n": 0, "a": value}, {"n": 1, "a": missing}]
    assert arrived(client, rows, key="n")[1] is None


def test_types_that_change_behind_the_first_ten_thousand_rows_are_read(
    client: MemoryClient,
) -> None:
    rows = [{"n": n, "a": 1} for n in range(10_000)] + [{"n": -1, "a": "x"}]
    assert client.enqueue_batch(rows, "late", key="n").created == 10_001


def test_in_a_key_numbers_are_equal_by_value_and_a_text_or_a_bool_never_is(
    client: MemoryClient,
) -> None:
    rows = [{"a": value} for value in (1, 1.0, "1", True, 0.0, -0.0, 0)]
    batch = client.enqueue_batch(rows, "keys", key="a")
    assert (batch.created, batch.duplicates) == (4, 3)
    floats = client.enqueue_batch(pa.table({"a": [0.0, -0.0]}), "keys-of-floats", key="a")
    assert floats.created == 1


def test_a_null_of_json_is_no_key(client: MemoryClient) -> None:
    texts = pa.array(['{"x":1}', " null "], pa.json_(pa.string()))
    with pytest.raises(errors.RowsRejectedError, match="row 1,"):
        arrived(client, pa.table({"a": texts}), key="a")
    with pytest.raises(errors.RowsRejectedError, match="row 0,"):
        arrived(client, [{"a": np.datetime64("NaT")}, {"a": "x"}], key="a")


def test_json_in_views_of_texts_is_read(client: MemoryClient) -> None:
    texts = pa.array(['{"x":1}', None], pa.json_(pa.string_view()))
    assert arrived(client, pa.table({"a": texts})) == [{"x": 1}, None]


def test_an_integer_beyond_64_bits_keeps_its_digits_or_is_named(client: MemoryClient) -> None:
    rows = [{"n": 0, "a": 1}, {"n": 1, "a": 10**30}]
    assert arrived(client, rows, key="n", on_lossy="string") == [1, str(10**30)]
    with pytest.raises(errors.LossyValueError, match=r"column 'a', row 1: 1000.* or \"round\""):
        client.enqueue_batch(rows, "large", key="n")


@pytest.mark.parametrize("number", ["9007199254740993.0", "12345678901234567.89", "1e400"])
@pytest.mark.parametrize("inside", ['{{"n": 1, "a": {}}}', '{{"n": 1, "a": {{"b": [{}]}}}}'])
def test_a_json_number_that_no_double_holds_is_named(
    client: MemoryClient, tmp_path: Path, number: str, inside: str
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"n": 0, "a": 1.5}\n' + inside.format(number) + "\n")
    with pytest.raises(errors.LossyValueError, match=r"row 1: "):
        client.enqueue_batch(path, "exact")
    with pytest.raises(errors.LossyValueError):
        client.enqueue_batch(pd.DataFrame({"p": [inside.format(number)]}), "p", payload="p")


def test_a_json_number_that_no_double_holds_is_sent_with_all_its_digits(
    client: MemoryClient, tmp_path: Path
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"n": 0, "a": 1.5}\n{"n": 1, "a": 12345678901234567.89}\n')
    assert arrived(client, path, key="n", on_lossy="string") == [1.5, "12345678901234567.89"]


@pytest.mark.parametrize("value", [b"bytes", object(), 1j])
def test_what_no_payload_holds_is_refused_with_its_row(client: MemoryClient, value: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=r"column 'a', row 1: .*Nothing was sent"):
        client.enqueue_batch([{"a": 1}, {"a": value}], "refused")


def test_a_dict_that_a_generator_fills_again_and_again_is_as_many_rows(
    client: MemoryClient,
) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        row: dict[str, Any] = {"n": 0, "a": {"b": [0]}}
        for number in range(3):
            row["n"] = number
            row["a"]["b"][0] = number
            yield row

    assert arrived(client, rows(), key="n") == [{"b": [0]}, {"b": [1]}, {"b": [2]}]


def test_none_first_is_not_an_empty_table(client: MemoryClient) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="NoneType") as refused:
        client.enqueue_batch(iter([None, {"a": 1}]), "none")
    assert not isinstance(refused.value, errors.EmptyTableError)


@pytest.mark.parametrize("make", [list, pd.DataFrame, pl.DataFrame, pa.Table.from_pylist])
def test_a_decimal_keeps_the_zeros_that_it_says(client: MemoryClient, make: Any) -> None:
    rows = [{"n": n, "a": Decimal(text)} for n, text in enumerate(("1.10", "20.00", "-0.50"))]
    assert arrived(client, make(rows), key="n") == ["1.10", "20.00", "-0.50"]


@pytest.mark.parametrize(
    "inside", [lambda d: d, lambda d: [d], lambda d: {"b": [{"c": d}]}, lambda d: [d, 1, "x"]]
)
@pytest.mark.parametrize("make", [list, pd.DataFrame])
def test_decimals_of_python_keep_their_own_zeros(
    client: MemoryClient, make: Any, inside: Any
) -> None:
    texts = ["1.5", "1.50", "2", "3.000", "1E+2"]
    rows = [{"n": n, "a": inside(Decimal(text))} for n, text in enumerate(texts)]
    expected = [inside(text) for text in ("1.5", "1.50", "2", "3.000", "100")]
    assert arrived(client, make(rows), key="n") == expected
    # They are equal all the same, so that they are one key, and one row without a key.
    queue = f"q-{uuid.uuid4().hex}"
    assert client.enqueue_batch(make(rows[:3]), queue, key="a").created == 2
    once = [{"a": row["a"]} for row in rows[:1]]
    again = [{"a": row["a"]} for row in rows[1:2]]
    assert client.enqueue_batch(make(once), queue, name="x").created == 1
    assert client.enqueue_batch(make(again), queue, name="x").duplicates == 1


def test_a_payload_function_sees_decimals_as_texts(client: MemoryClient) -> None:
    seen: list[Any] = []

    def payload(batch: pa.RecordBatch) -> pa.RecordBatch:
        seen.extend(json.loads(text) for text in batch.column("a").storage.to_pylist())
        return batch

    rows = [{"a": {"x": Decimal("1.10")}}, {"a": [Decimal("2.5"), None]}]
    client.enqueue_batch(rows, "function", payload=payload)
    assert seen == [{"x": "1.10"}, ["2.5", None]]


@pytest.mark.parametrize("type_", [pa.decimal128(9, 2), pa.decimal128(12, 4)])
def test_a_table_whose_decimals_get_more_zeros_is_the_same_table(
    client: MemoryClient, type_: pa.DataType
) -> None:
    queue = f"scale-{type_.scale}"
    for scale in (2, type_.scale):
        digits = [Decimal("1.10"), None, Decimal("2.34"), Decimal(0), Decimal("-20.00")]
        values = pa.array(digits).cast(pa.decimal128(12, scale))
        table = pa.table({"a": values, "b": [[1.5], [], [0.5], None, [2.0]], "c": list("vwxyz")})
        batch = client.enqueue_batch(table, queue, name="t")
    assert (batch.created, batch.duplicates) == (0, 5)


def test_minus_zero_is_zero_wherever_it_is_in_a_key(client: MemoryClient) -> None:
    for n, (one, other) in enumerate(
        [([0.0], [-0.0]), ({"b": 0.0}, {"b": -0.0}), ([0.0, "x"], [-0.0, "x"]), ([[0]], [[-0.0]])]
    ):
        batch = client.enqueue_batch([{"a": one}, {"a": other}], f"zero-{n}", key="a")
        assert batch.created == 1, one
    typed = pa.table({"a": [[0.0, 1.0], [-0.0, 1.0]]})
    assert client.enqueue_batch(typed, "zero-typed", key="a").created == 1


def test_rounded_numbers_are_the_nearest_doubles_and_are_counted(
    client: MemoryClient, tmp_path: Path
) -> None:
    # Halfway between two doubles the one with the even last bit counts.
    beyond = [2**53 + 1, 2**53 + 3, -(2**63), 7, None]
    rows = [{"n": n, "a": value} for n, value in enumerate(beyond)]
    nearest = [2.0**53, 2.0**53 + 4, -(2.0**63), 7, None]
    for data in (rows, pa.Table.from_pylist(rows)):
        assert arrived(client, data, key="n", on_lossy="round") == nearest
        plan = client.plan_batch(data, "planned", key="n", on_lossy={"a": "round"})
        assert plan.notes == ("rounded to the nearest double: 3 values of a",)
        # Also where the values themselves, with all their digits, are the key or the row.
        assert client.plan_batch(data, "planned", on_lossy="round").notes == plan.notes
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 12345678901234567.89}\n{"a": [1000000000000000000000000000001]}\n')
    assert arrived(client, path, on_lossy="round") == [12345678901234567.89, [1e30]]


@pytest.mark.parametrize("value", [float("inf"), 10**400, [float("-inf")], b"bytes"])
def test_what_has_no_nearest_double_is_refused(client: MemoryClient, value: Any) -> None:
    with pytest.raises((errors.LossyValueError, errors.InvalidArgumentError)):
        client.enqueue_batch([{"a": 1, "n": 0}, {"a": value, "n": 1}], "none", on_lossy="round")


ODD_VALUES = [
    *(-0.0, 0.0, 1.0, -2.0, 1e-5, 1e16, 1e22, 5e-324, 0.1, 123456789.123, 0.8444218515250481),
    *(-1, 2**53, 10**15, True, False, None),
    *("", "null", "NaN", "1", '"', "\\", "\n\x00\x1f\x7f", "ü€😀\u2028", "x" * 300),
    *([], {}, (1, "y"), [[None, {"b": [1.5, {"a": -0.0}]}]], {"z": 1, "a": "\t"}, [float("nan")]),
]


@pytest.mark.parametrize("beside", [[], [dt.date(2024, 1, 31), Decimal("1.10"), np.float64(0.5)]])
def test_values_that_are_written_together_are_what_each_is_alone(beside: list[object]) -> None:
    together = to_array([*ODD_VALUES, *beside]).storage
    context = ValueContext("a", lambda index: index, "raise")
    encoded = encode_json(together, context).fill_null(VALUE_NULL).to_pylist()
    for value, message in zip([*ODD_VALUES, *beside], encoded, strict=True):
        alone = encode_values(pa.array([None]) if value is None else to_array([value]), context)
        assert message == alone.to_array(1)[0].as_py(), value


@pytest.mark.parametrize(
    "text",
    ["-0", "-0.0", " 1", "1 ", '"x" ', r'"\u00fc"', "1e2", "12345678901234567.0", "[1]"],
)
def test_a_json_text_is_read_as_python_reads_it(text: str) -> None:
    context = ValueContext("a", lambda index: index, "string")
    (message,) = encode_json(pa.array([text]), context).to_pylist()
    value = Value.FromString(message)
    expected = json.loads(text)
    if isinstance(expected, float) and len(text) > 17:
        assert value.string_value == text
    elif isinstance(expected, list):
        assert [item.number_value for item in value.list_value.values] == expected
    elif isinstance(expected, str):
        assert value.string_value == expected
    else:
        assert (value.number_value, math.copysign(1, value.number_value)) == (
            expected,
            math.copysign(1, expected),
        )


@pytest.mark.parametrize(
    "text", ["01", "1.", ".5", "+1", "1,2", '"a', 'a"', '"\t"', "inf", "", "]["]
)
def test_what_is_not_json_is_named_with_its_row(text: str) -> None:
    context = ValueContext("a", lambda index: index, "string")
    with pytest.raises(errors.InvalidArgumentError, match=r"column 'a', row 1: this is not JSON"):
        encode_json(pa.array(["1", text]), context)


def test_a_nested_name_that_is_not_text_is_refused_with_its_row(client: MemoryClient) -> None:
    rows = [{"a": 1}, {"a": [{"b": {2: 3}}]}]
    with pytest.raises(errors.InvalidArgumentError, match=r"row 1: .*an object has the key 2"):
        client.enqueue_batch(rows, "names")
