"""Random Arrow tables of every type that docs/types.md has, and what they say in plain Python."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import uuid
from decimal import Decimal
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import strategies as st

from spooled_pipelines.batch.values.arrow_types import storage_array

EXACT = 2**53
_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
_UTC = dt.timezone.utc
_FROM, _TO = dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)  # noqa: DTZ001  (naive on purpose)
# What a count of nanoseconds reaches.
_FROM_NS, _TO_NS = dt.datetime(1678, 1, 1), dt.datetime(2262, 1, 1)  # noqa: DTZ001
OnLossy = Literal["raise", "string", "null", "round"]


def _of(values: Any, *kinds: pa.DataType) -> Any:
    return st.sampled_from(kinds).map(lambda kind: (kind, values))


def _integers(low: int, high: int, *kinds: pa.DataType) -> Any:
    return _of(st.integers(low, high), *kinds)


def _moments(unit: str, zone: str | None) -> Any:
    low, high = (_FROM_NS, _TO_NS) if unit == "ns" else (_FROM, _TO)
    zones = st.none() if zone is None else st.just(_UTC)
    step = {"s": 1_000_000, "ms": 1_000}.get(unit, 1)

    def cut(moment: dt.datetime) -> dt.datetime:
        return moment.replace(microsecond=moment.microsecond // step * step)

    return _of(st.datetimes(low, high, timezones=zones).map(cut), pa.timestamp(unit, zone))


def _decimals(kind: pa.DataType) -> Any:
    digits = st.integers(1 - 10**kind.precision, 10**kind.precision - 1)
    # Written out: arithmetic would round to the context's digits.
    return _of(digits.map(lambda number: Decimal(f"{number}e{-kind.scale}")), kind)


_SPANS = st.timedeltas(dt.timedelta(-9999), dt.timedelta(9999))

SCALARS = st.one_of(
    _integers(-128, 127, pa.int8(), pa.int16()),
    _integers(0, 255, pa.uint8(), pa.uint16(), pa.uint32()),
    _integers(-(2**31), 2**31 - 1, pa.int32()),
    _integers(-EXACT, EXACT, pa.int64()),
    _integers(0, EXACT, pa.uint64()),
    _of(st.floats(allow_infinity=False), pa.float64()),
    _of(st.floats(width=32, allow_infinity=False), pa.float32()),
    _of(st.floats(width=16, allow_infinity=False), pa.float16()),
    _of(st.booleans(), pa.bool_()),
    _of(_TEXT, pa.string(), pa.large_string()),
    _of(_TEXT, pa.string_view(), pa.dictionary(pa.int32(), pa.string())),
    _integers(-9, 9, pa.dictionary(pa.int8(), pa.int64())),
    _of(st.none(), pa.null()),
    _of(st.dates(), pa.date32(), pa.date64()),
    *(_moments(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC")),
    _moments("us", "America/Lima"),
    _of(st.times(), pa.time64("us"), pa.time64("ns")),
    _of(st.times().map(lambda time: time.replace(microsecond=0)), pa.time32("s"), pa.time32("ms")),
    _of(_SPANS, pa.duration("us"), pa.duration("ns")),
    _of(_SPANS.map(lambda span: dt.timedelta(span.days, span.seconds)), pa.duration("s")),
    _decimals(pa.decimal32(9, 2)),
    _decimals(pa.decimal64(18, 0)),
    _decimals(pa.decimal128(20, 3)),
    _decimals(pa.decimal256(60, 11)),
    _of(st.uuids(), pa.uuid()),
)

# Types with values among them that a payload cannot hold.
LOSSY = st.one_of(
    _integers(-(2**63), 2**63 - 1, pa.int64()),
    _integers(0, 2**64 - 1, pa.uint64()),
    _of(st.floats(), pa.float64()),
    _of(st.floats(width=32), pa.float32()),
    _of(st.binary(max_size=9), pa.binary(), pa.large_binary()),
    _of(st.binary(min_size=3, max_size=3), pa.binary(3)),
)


@st.composite
def _lists(draw: Any, inner: Any) -> Any:
    kind, values = draw(inner)
    items = st.none() | values
    if draw(st.booleans()):
        size = draw(st.integers(1, 3))
        return pa.list_(kind, size), st.lists(items, min_size=size, max_size=size)
    make = draw(st.sampled_from([pa.list_, pa.large_list, pa.list_view, pa.large_list_view]))
    return make(kind), st.lists(items, max_size=4)


@st.composite
def _structs(draw: Any, inner: Any) -> Any:
    names = draw(st.lists(_TEXT, max_size=3, unique=True))
    fields = [(name, *draw(inner)) for name in names]
    kind = pa.struct([(name, field) for name, field, _ in fields])
    return kind, st.fixed_dictionaries({name: st.none() | values for name, _, values in fields})


@st.composite
def _maps(draw: Any, inner: Any) -> Any:
    kind, values = draw(inner)
    keys = draw(st.sampled_from([pa.string(), pa.large_string()]))
    entries = st.dictionaries(_TEXT, st.none() | values, max_size=3)
    return pa.map_(keys, kind), entries.map(lambda found: list(found.items()))


def _nested(scalars: Any) -> Any:
    # Arrow builds no dictionary-encoded, view or extension values inside lists and structs from
    # Python.
    inside = scalars.filter(
        lambda made: (
            not (
                pa.types.is_dictionary(made[0])
                or pa.types.is_string_view(made[0])
                or isinstance(made[0], pa.BaseExtensionType)
            )
        )
    )
    return st.recursive(
        inside, lambda inner: st.one_of(_lists(inner), _structs(inner), _maps(inner)), max_leaves=4
    )


COLUMNS = SCALARS | _nested(SCALARS)
LOSSY_COLUMNS = COLUMNS | LOSSY | _nested(LOSSY)


@st.composite
def tables(draw: Any, columns: Any = COLUMNS) -> pa.Table:
    """One to five columns, one to twelve rows, nulls anywhere, cut into chunks anywhere."""
    names = draw(st.lists(_TEXT.filter(bool), min_size=1, max_size=5, unique=True))
    rows = draw(st.integers(1, 12))
    arrays = []
    for _ in names:
        kind, values = draw(columns)
        column = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
        arrays.append(draw(_stored(_array(column, kind))))
    table = pa.table(arrays, names=names)
    cut = draw(st.integers(0, rows))
    return pa.concat_tables([table.slice(0, cut), table.slice(cut)])


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind == pa.uuid():
        storage = [None if value is None else value.bytes for value in values]
        return pa.ExtensionArray.from_storage(kind, pa.array(storage, pa.binary(16)))
    return pa.array(values, kind)


def _stored(array: pa.Array) -> Any:
    """The same values, perhaps stored otherwise: by runs, say, or as a piece of a longer array."""
    ways = [array, pa.concat_arrays([array, array]).slice(len(array))]
    if pa.types.is_integer(array.type) or pa.types.is_string(array.type):
        ways.append(pc.run_end_encode(array))
    if pa.types.is_int8(array.type) and not array.null_count:
        ways.append(pa.ExtensionArray.from_storage(pa.bool8(), array))
    if pa.types.is_string(array.type):
        texts = [None if text is None else json.dumps({"a": [text]}) for text in array.to_pylist()]
        storage = pa.array(texts, pa.string())
        ways.append(pa.ExtensionArray.from_storage(pa.json_(pa.string()), storage))
    return st.sampled_from(ways)


class Lossy(Exception):  # noqa: N818
    """A value that a payload does not hold, where such are refused."""


def plain(value: Any, kind: pa.DataType, on_lossy: OnLossy = "raise") -> Any:
    """The value that a payload holds for a Python value of an Arrow array of this type.

    `Lossy` where it holds none.
    """
    if value is None:
        return None
    if isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.json":
        return json.loads(value)
    if pa.types.is_map(kind):
        return {name: plain(inner, kind.item_type, on_lossy) for name, inner in value}
    if pa.types.is_struct(kind):
        return {field.name: plain(value[field.name], field.type, on_lossy) for field in kind}
    if isinstance(value, list):
        return [plain(inner, kind.value_type, on_lossy) for inner in value]
    if isinstance(value, bool | str):
        return value
    if isinstance(value, bytes):
        return _unfit(base64.b64encode(value).decode(), on_lossy)
    if isinstance(value, int) and abs(value) > EXACT:
        return float(value) if on_lossy == "round" else _unfit(str(value), on_lossy)
    if isinstance(value, int | float):
        if math.isinf(value):
            return _unfit("Infinity" if value > 0 else "-Infinity", on_lossy)
        return None if math.isnan(value) else float(value)
    return text_of(value)


def typed(value: Any, kind: pa.DataType, on_lossy: OnLossy = "raise") -> Any:
    """The value that `job.row` has for a Python value of an Arrow array of this type."""
    if isinstance(value, dict):
        return {field.name: typed(value[field.name], field.type, on_lossy) for field in kind}
    if pa.types.is_map(kind) and value is not None:
        return {name: typed(inner, kind.item_type, on_lossy) for name, inner in value}
    if isinstance(value, list):
        return [typed(inner, kind.value_type, on_lossy) for inner in value]
    if isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.json":
        return plain(value, kind, on_lossy)
    kept = plain(value, kind, on_lossy)
    # What the payload has not, the row has not either; a rounded number is the payload's.
    if kept is not None and on_lossy == "round" and pa.types.is_integer(kind):
        return int(kept)
    return None if kept is None else value


def _unfit(text: str, on_lossy: OnLossy) -> str | None:
    if on_lossy in ("raise", "round"):
        raise Lossy(text)
    return text if on_lossy == "string" else None


def text_of(value: Any) -> str:
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dt.timedelta):
        return _duration(value)
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value.isoformat()
    digits = "seconds"
    if value.microsecond:
        digits = "microseconds" if value.microsecond % 1000 else "milliseconds"
    if value.tzinfo is not None:
        value = value.astimezone(_UTC)
        return str(value.replace(tzinfo=None).isoformat(timespec=digits)) + "Z"
    return str(value.isoformat(timespec=digits))


def _duration(value: dt.timedelta) -> str:
    sign, value = ("-", -value) if value < dt.timedelta(0) else ("", value)
    minutes, seconds = divmod(value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{value.microseconds:06d}".rstrip("0").rstrip(".")
    return f"{sign}P{value.days}DT{hours}H{minutes}M{seconds}{fraction}S"


def check_same(array: pa.Array, column: pa.ChunkedArray, as_json: list[Any] | None = None) -> None:
    """An array that was read back has the values of the table's column, and its type.

    `as_json`: what JSON has of a column whose type is not kept.
    """
    was = column.type
    if as_json is not None:
        assert [each and json.loads(each) for each in array.to_pylist()] == as_json
        return
    kept = column.combine_chunks()
    if not isinstance(was, pa.BaseExtensionType):
        kept = storage_array(kept)
    encoded = pa.types.is_dictionary(was) or pa.types.is_run_end_encoded(was)
    kind = was.value_type if encoded else was
    assert array.type == kind or pa.types.is_nested(kind), (array.type, was)
    if pa.types.is_temporal(array.type):
        # Beyond Python's years.
        counts = pa.int32() if array.type.bit_width == 32 else pa.int64()
        assert array.view(counts).equals(kept.view(counts))
    else:
        assert _by_value(array.to_pylist()) == _by_value(kept.to_pylist())


def _by_value(value: Any) -> Any:
    """Maps as objects, whose fields have no order, and NaN as null, which it is in payloads."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, dict):
        return {name: _by_value(each) for name, each in value.items()}
    if isinstance(value, list) and value and all(isinstance(each, tuple) for each in value):
        return _by_value(dict(value))
    return [_by_value(each) for each in value] if isinstance(value, list) else value
