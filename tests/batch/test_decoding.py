"""Payloads by column are what protobuf and Python make of them one by one, whatever is in them."""

from __future__ import annotations

import math
import re
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines.batch.decoding.payload_columns import MIXED, decode_columns, infer
from spooled_pipelines.batch.decoding.payload_rows import decode_rows
from spooled_pipelines.batch.encoding.protobuf_wire import (
    FIELD_1,
    FIELD_2,
    VALUE_FALSE,
    VALUE_LIST,
    VALUE_NULL,
    VALUE_NUMBER,
    VALUE_STRING,
    VALUE_STRUCT,
    VALUE_TRUE,
    bytes_field,
    double,
)
from spooled_pipelines.batch.values.exact_arrays import MisfitError, exact_array
from spooled_pipelines.rpc.struct import from_struct
from spooled_pipelines.wire.well_known import Struct

_NAMES = ["a", "b", "name", "a longer name of a field", "é", "n" * 130, ""]
_NUMBERS = st.one_of(
    st.integers(-(2**53), 2**53).map(float),
    st.floats(),
    st.sampled_from([0.0, -0.0, 1.5, float(2**53), float(2**53 + 2), math.inf, math.nan]),
)
_TEXTS = st.one_of(st.text(max_size=5), st.sampled_from(["", "ü" * 70, "x" * 20_000]))
_SCALARS = st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXTS)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(_NAMES), inner, max_size=3)
    ),
    max_leaves=6,
)
_OF_ONE_KIND = [
    st.booleans(),
    _NUMBERS,
    st.integers(-5, 5).map(float),
    _TEXTS,
    st.none(),
    st.lists(_NUMBERS, max_size=3),
    st.lists(st.text(max_size=3), max_size=3),
    st.fixed_dictionaries({"x": _NUMBERS}, optional={"y": st.text(max_size=3)}),
    st.fixed_dictionaries({"x": st.fixed_dictionaries({"z": st.one_of(st.none(), _NUMBERS)})}),
    _VALUES,
]


def _value(value: Any) -> bytes:
    if value is None:
        return VALUE_NULL
    if isinstance(value, bool):
        return VALUE_TRUE if value else VALUE_FALSE
    if isinstance(value, float):
        return VALUE_NUMBER + double(value)
    if isinstance(value, str):
        return bytes_field(VALUE_STRING, value.encode())
    if isinstance(value, list):
        items = b"".join(bytes_field(FIELD_1, _value(each)) for each in value)
        return bytes_field(VALUE_LIST, items)
    return bytes_field(VALUE_STRUCT, _struct(list(value.items())))


def _struct(items: list[tuple[str, Any]]) -> bytes:
    entries = (
        bytes_field(FIELD_1, name.encode()) + bytes_field(FIELD_2, _value(value))
        for name, value in items
    )
    return b"".join(bytes_field(FIELD_1, entry) for entry in entries)


@st.composite
def _tables(draw: st.DrawFn) -> list[bytes]:
    """Draw payloads like those of a table, and some that are not."""
    names = draw(st.lists(st.sampled_from(_NAMES), unique=True, max_size=4))
    kinds = {name: draw(st.sampled_from(_OF_ONE_KIND)) for name in names}
    rows = draw(st.lists(st.fixed_dictionaries(kinds), min_size=1, max_size=4))
    # As many as a table has, so that there is something to do by column.
    payloads = [_struct(list(row.items())) for row in rows * draw(st.sampled_from([1, 8, 20]))]
    others: list[Any] = [
        st.sampled_from([list(reversed(row.items())) for row in rows]).map(_struct),
        st.sampled_from([list(row.items())[1:] for row in rows]).map(_struct),
        st.dictionaries(st.sampled_from(_NAMES), _VALUES, max_size=3).map(
            lambda row: _struct(list(row.items()))
        ),
        st.sampled_from(_ODD),
    ]
    for other in draw(st.lists(st.one_of(*others), max_size=3)):
        at = draw(st.integers(0, len(payloads)))
        payloads[at:at] = [other] * draw(st.sampled_from([1, 20]))
    return payloads


def _entry(value: bytes) -> bytes:
    return bytes_field(FIELD_1, bytes_field(FIELD_1, b"a") + bytes_field(FIELD_2, value))


# Written as protobuf does not, and read by it all the same.
_ODD = [
    b"",
    # A name twice, lengths and a bool with too many bytes, a null by another number.
    _struct([("a", 1.0), ("a", "b")]),
    b"\x0a\x8e\x80\x00\x0a\x01a\x12\x09\x11" + double(2.0),
    b"\x0a\x8f\x00\x0a\x01a\x12\x89\x80\x00\x11" + double(2.0),
    _entry(b"\x20\x80\x01"),
    _entry(b"\x08\x05"),
    # A Value with nothing in it, with two things, with a field that nobody knows.
    _entry(b""),
    _entry(VALUE_NULL + VALUE_TRUE),
    _entry(VALUE_TRUE + b"\x78\x01"),
    # An entry without a value, without a name, with both the other way round.
    bytes_field(FIELD_1, bytes_field(FIELD_1, b"a")),
    bytes_field(FIELD_1, bytes_field(FIELD_2, VALUE_TRUE)),
    bytes_field(FIELD_1, bytes_field(FIELD_2, VALUE_TRUE) + bytes_field(FIELD_1, b"a")),
    # A list whose items are as long as numbers, and are not.
    _entry(bytes_field(VALUE_LIST, bytes_field(FIELD_1, bytes_field(VALUE_STRING, b"seven!!")))),
]


def _expected(payloads: list[bytes]) -> dict[str, pa.Array | None]:
    objects = [from_struct(Struct.FromString(each)) for each in payloads]
    names = {name for each in objects for name in each}
    return {name: infer([each.get(name) for each in objects]) for name in names}


def _same(one: pa.Array | None, other: pa.Array | None) -> bool:
    if one is MIXED or other is MIXED:
        return one is other
    if pa.types.is_temporal(one.type):
        # Python has no year 0.
        return one.equals(other)
    # By their texts, for which NaN is NaN, and 0.0 is not -0.0.
    return one.type.equals(other.type) and repr(one.to_pylist()) == repr(other.to_pylist())


def _read_all(payloads: list[bytes]) -> None:
    columns = decode_columns(pa.array(payloads, pa.binary()))
    # Values that have no type in common are read when they are asked for.
    assert MIXED in columns.arrays.values()
    columns.values("a")


def _check(payloads: list[bytes]) -> None:
    try:
        expected = _expected(payloads)
    except DecodeError:
        with pytest.raises(DecodeError):
            _read_all(payloads)
        return
    found = decode_columns(pa.array(payloads, pa.binary()))
    assert found.arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert _same(found.arrays[name], array), name
        if array is not MIXED:
            found.arrays[name].validate(full=True)


@given(_tables())
def test_columns_are_what_protobuf_makes_of_each_payload(payloads: list[bytes]) -> None:
    _check(payloads)


@given(_tables(), st.data())
def test_damaged_bytes_are_read_or_refused_as_protobuf_does(
    payloads: list[bytes], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(payloads) - 1))
    payload = bytearray(payloads[at])
    for _ in range(data.draw(st.integers(1, 3))):
        if payload:
            place = data.draw(st.integers(0, len(payload) - 1))
            payload[place] = data.draw(st.sampled_from([0, 1, 2, 9, 10, 17, 18, 26, 127, 128, 255]))
    if data.draw(st.booleans()):
        payload = payload[: data.draw(st.integers(0, len(payload)))]
    _check([*payloads[:at], bytes(payload), *payloads[at + 1 :]])


@pytest.mark.parametrize("payload", _ODD)
def test_what_is_written_otherwise_is_read_the_same(payload: bytes) -> None:
    usual = [_struct([("a", 1.0)])] * 20
    _check([payload] * 20)
    _check([*usual, payload, *usual])


def test_no_payload_is_a_row_of_nulls() -> None:
    payloads = [None, *[_struct([("a", 1.0), ("b", [1.0, 2.0])])] * 20, None]
    columns = decode_columns(pa.array(payloads, pa.binary()))
    assert columns.arrays["a"].to_pylist() == [None, *[1] * 20, None]
    assert columns.arrays["b"].to_pylist() == [None, *[[1, 2]] * 20, None]


def test_a_slice_of_payloads_is_read_where_it_lies() -> None:
    payloads = pa.array([_struct([("a", float(row)), ("t", "x" * row)]) for row in range(100)])
    rows = decode_rows(payloads.slice(30, 40))
    assert rows.column("a").to_pylist() == list(range(30, 70))
    assert rows.column("t").to_pylist() == ["x" * row for row in range(30, 70)]


_TYPES = [
    pa.int64(),
    pa.int8(),
    pa.uint64(),
    pa.float64(),
    pa.float32(),
    pa.string(),
    pa.large_string(),
    pa.bool_(),
    pa.timestamp("us", "UTC"),
    pa.date32(),
    pa.decimal128(20, 3),
    pa.list_(pa.float64()),
]
_OF_TYPES = st.one_of(
    _SCALARS,
    st.integers(-300, 300).map(float),
    st.sampled_from(["2024-05-01", "2024-05-01T10:00:00Z", "12", "1.25", "-3"]),
    st.lists(_NUMBERS, max_size=2),
)


@given(st.lists(_OF_TYPES, min_size=1, max_size=2), st.sampled_from(_TYPES))
def test_a_schema_gives_what_the_values_one_by_one_would_be(
    values: list[Any], arrow_type: pa.DataType
) -> None:
    payloads = [_struct([("x", "other"), ("a", value)]) for value in values * 10]
    plain = [from_struct(Struct.FromString(each))["a"] for each in payloads]
    schema = pa.schema([("a", arrow_type), ("missing", pa.int64())])
    try:
        expected = exact_array(plain, arrow_type)
    except MisfitError as error:
        with pytest.raises(MisfitError, match=re.escape(error.reason)):
            decode_rows(pa.array(payloads), schema)
        return
    rows = decode_rows(pa.array(payloads), schema)
    assert rows.schema.equals(schema)
    assert _same(rows.column("a"), expected)
    assert rows.column("missing").null_count == len(payloads)
