"""What a worker reads is what the table says, or the table is refused."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines.batch.encoding.column_mapping import map_columns
from spooled_pipelines.batch.encoding.rows import encode_rows
from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.errors import InvalidArgumentError, LossyValueError
from spooled_pipelines.wire import spooled_v1
from tests.support.arrow_strategies import EXACT, plain, tables


def payloads(table: pa.Table, on_lossy: Any = "raise") -> list[dict[str, Any]]:
    """What workers would read, row by row."""
    mapping = map_columns(table.schema, RowOptions())
    found = []
    for batch in table.to_batches():
        made = encode_rows(batch, mapping, len(found), on_lossy)
        pieces = made.encoded.to_pylist()
        found.extend(_object(spooled_v1.EnqueueRequest.FromString(p).payload) for p in pieces)
    return found


def payload_of(array: pa.Array, on_lossy: Any = "raise") -> list[Any]:
    return [row["x"] for row in payloads(pa.table({"x": array}), on_lossy)]


def _object(struct: Any) -> dict[str, Any]:
    return {name: _value(value) for name, value in struct.fields.items()}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _object(value.struct_value)
    if kind == "list_value":
        return [_value(item) for item in value.list_value.values]
    return None if kind == "null_value" else getattr(value, kind)


@given(tables())
def test_a_payload_is_the_plain_python_reading_of_its_row(table: pa.Table) -> None:
    kinds = {field.name: field.type for field in table.schema}
    expected = [
        {name: plain(value, kinds[name]) for name, value in row.items()}
        for row in table.to_pylist()
    ]
    assert payloads(table) == expected


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_an_integer_is_exact_or_refused_with_its_row(values: list[int | None]) -> None:
    beyond = [i for i, v in enumerate(values) if v is not None and abs(v) > EXACT]
    array = pa.array(values, pa.int64())
    if not beyond:
        assert payload_of(array) == values
        return
    with pytest.raises(LossyValueError) as caught:
        payload_of(array)
    assert (caught.value.column, caught.value.row) == ("x", beyond[0])
    assert caught.value.value == str(values[beyond[0]])
    expected = [str(v) if i in beyond else v for i, v in enumerate(values)]
    assert payload_of(array, "string") == expected


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([1.5, float("nan"), None]), [1.5, None, None]),
        (pa.array([0.1], pa.float32()), [0.10000000149011612]),
        (pa.array([1.5, None], pa.float16()), [1.5, None]),
        (pa.array([-0.0]), [-0.0]),
        (pa.array([1.0, 2.5]), [1.0, 2.5]),
        (pa.array([[], None, [1, None]]), [[], None, [1.0, None]]),
        (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), [[1.0, 2.0], None]),
        (pa.array([[1], None, [2, 3]], pa.list_view(pa.int8())), [[1.0], None, [2.0, 3.0]]),
        (pa.array([{}, None], pa.struct([])), [{}, None]),
        (pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int8())), [{"a": 1}, {}, None]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        (pc.run_end_encode(pa.array(["a", "a", "b"])), ["a", "a", "b"]),
        (pa.array([uuid.UUID(int=5)]), ["00000000-0000-0000-0000-000000000005"]),
        (pa.array([dt.time(5), dt.time(5, 0, 1, 500_000)]), ["05:00:00", "05:00:01.500"]),
        (pa.array([18_000], pa.time32("s")), ["05:00:00"]),
        (pa.array([dt.date(2013, 1, 31)], pa.date64()), ["2013-01-31"]),
        (pa.array([Decimal("0.0000001")]), ["0.0000001"]),
        (pa.array(["", "\x00", "ü" * 70_000]), ["", "\x00", "ü" * 70_000]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_each_type_has_one_reading(array: pa.Array, expected: list[Any]) -> None:
    assert payload_of(array) == expected


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_a_time_reads_the_same_from_every_unit(unit: str, zone: str | None) -> None:
    seconds = [0, -1, 1_357_016_400, None]
    factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    counts = [None if second is None else second * factor for second in seconds]
    read = payload_of(pa.array(counts, pa.timestamp(unit, zone)))
    end = "" if zone is None else "Z"
    texts = ["1970-01-01T00:00:00", "1969-12-31T23:59:59", "2013-01-01T05:00:00"]
    assert read == [*(text + end for text in texts), None]


def test_a_fraction_has_as_many_digits_as_it_needs_whatever_its_neighbours_have() -> None:
    array = pa.array([1_000_000_000, 1_500_000_000, 1_000_001_000, 1, None], pa.timestamp("ns"))
    texts = [
        "1970-01-01T00:00:01",
        "1970-01-01T00:00:01.500",
        "1970-01-01T00:00:01.000001",
        "1970-01-01T00:00:00.000000001",
        None,
    ]
    assert payload_of(array) == texts
    assert [payload_of(array.slice(i, 1))[0] for i in range(5)] == texts


@pytest.mark.parametrize(
    ("array", "value", "text"),
    [
        (pa.array([1.0, math.inf]), "Infinity", [1.0, "Infinity"]),
        (pa.array([1.0, -math.inf]), "-Infinity", [1.0, "-Infinity"]),
        (pa.array([1, 2**64 - 1], pa.uint64()), str(2**64 - 1), [1.0, str(2**64 - 1)]),
        (pa.array([None, b"\xff\x00"]), "2 bytes", [None, "/wA="]),
        (pa.array([None, b"ab"], pa.binary(2)), "2 bytes", [None, "YWI="]),
        (pa.array([[1], [2, 2**60]]), str(2**60), [[1.0], [2.0, str(2**60)]]),
        (pa.array([{"a": 1}, {"a": 2**60}]), str(2**60), [{"a": 1.0}, {"a": str(2**60)}]),
    ],
    ids=["infinity", "minus infinity", "uint64", "binary", "fixed binary", "in list", "in struct"],
)
def test_what_does_not_fit_is_refused_with_row_and_value_or_sent_as_text(
    array: pa.Array, value: str, text: list[Any]
) -> None:
    with pytest.raises(LossyValueError, match=r"on_lossy=\"string\"") as caught:
        payload_of(array)
    assert (caught.value.row, caught.value.value) == (1, value)
    assert caught.value.column.startswith("x")
    assert payload_of(array, "string") == text


def test_a_refused_value_inside_a_list_names_the_row_of_the_table() -> None:
    array = pa.array([None, [[1], []], [[2, 3], None, [2**54]]])
    with pytest.raises(LossyValueError) as caught:
        payload_of(array)
    assert (caught.value.row, caught.value.column) == (2, "x[][]")


def test_values_hidden_under_a_null_are_not_looked_at() -> None:
    inner = pa.array([1, 2**60], pa.int64())
    hidden = pa.StructArray.from_arrays([inner], ["a"], mask=pa.array([False, True]))
    assert payload_of(hidden) == [{"a": 1.0}, None]


def test_entries_hidden_under_a_null_map_are_nobodys() -> None:
    kind = pa.map_(pa.string(), pa.int64())
    entries = pa.array([[("a", 1)], [("b", 2**60), ("c", 3)], [("d", 4)]], kind)
    # The second of the three is made null; what it held stays in the buffers.
    buffers = entries.buffers()
    hidden = pa.MapArray.from_buffers(
        kind,
        3,
        [pa.py_buffer(b"\x05"), buffers[1]],
        children=[
            pa.StructArray.from_arrays(
                [entries.keys, entries.items], fields=[kind.key_field, kind.item_field]
            )
        ],
    )
    assert payload_of(hidden) == [{"a": 1.0}, None, {"d": 4.0}]
    assert payload_of(hidden.slice(1)) == [None, {"d": 4.0}]


def test_slices_of_maps_of_nothing_are_read() -> None:
    kind = pa.map_(pa.string(), pa.list_(pa.null()))
    array = pa.array([None, [("a", [None, None])], [("b", [None])]], kind)
    expected = [None, {"a": [None, None]}, {"b": [None]}]
    assert payload_of(array) == expected
    assert [payload_of(array.slice(i, 1))[0] for i in range(3)] == expected


@pytest.mark.parametrize(
    "array",
    [
        pa.array([[(1, 2)]], pa.map_(pa.int64(), pa.int64())),
        pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
        pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]),
        pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]),
    ],
    ids=["map of numbers", "interval", "union", "doubled field"],
)
def test_types_that_no_payload_holds_are_refused_by_column(array: pa.Array) -> None:
    with pytest.raises(InvalidArgumentError, match="column 'x'"):
        payload_of(array)


def test_a_map_with_one_name_twice_is_refused() -> None:
    array = pa.array([[("a", 1)], [("b", 1), ("b", 2)]], pa.map_(pa.string(), pa.int64()))
    with pytest.raises(LossyValueError, match="one name twice") as caught:
        payload_of(array)
    assert caught.value.row == 1


def test_nesting_that_no_parser_would_follow_is_refused() -> None:
    value: Any = 1
    for _ in range(60):
        value = [value]
    with pytest.raises(InvalidArgumentError, match="nested"):
        payload_of(pa.array([value]))
