"""Random Arrow tables, and what they say in plain Python."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

EXACT = 2**53
_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
_UTC = dt.timezone.utc
_FROM, _TO = dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)  # noqa: DTZ001  (naive on purpose)


def _integers(kind: pa.DataType, low: int, high: int) -> Any:
    return st.just((kind, st.integers(low, high)))


SCALARS = st.one_of(
    _integers(pa.int8(), -128, 127),
    _integers(pa.uint16(), 0, 2**16 - 1),
    _integers(pa.int32(), -(2**31), 2**31 - 1),
    _integers(pa.int64(), -EXACT, EXACT),
    _integers(pa.uint64(), 0, EXACT),
    st.just((pa.float64(), st.floats(allow_infinity=False))),
    st.just((pa.float32(), st.floats(width=32, allow_infinity=False))),
    st.just((pa.bool_(), st.booleans())),
    st.just((pa.string(), _TEXT)),
    st.just((pa.large_string(), _TEXT)),
    st.just((pa.string_view(), _TEXT)),
    st.just((pa.dictionary(pa.int32(), pa.string()), _TEXT)),
    st.just((pa.null(), st.none())),
    st.just((pa.date32(), st.dates())),
    st.just((pa.timestamp("s"), st.datetimes(_FROM, _TO).map(lambda t: t.replace(microsecond=0)))),
    st.just((pa.timestamp("us"), st.datetimes(_FROM, _TO))),
    st.just((pa.timestamp("us", "UTC"), st.datetimes(_FROM, _TO, timezones=st.just(_UTC)))),
    st.just((pa.time64("us"), st.times())),
    st.just((pa.duration("us"), st.timedeltas(dt.timedelta(-9999), dt.timedelta(9999)))),
    st.just((pa.decimal128(20, 3), st.decimals(-(10**16), 10**16, places=3))),
)


@st.composite
def _lists(draw: Any, inner: Any) -> Any:
    kind, values = draw(inner)
    make = draw(st.sampled_from([pa.list_, pa.large_list]))
    return make(kind), st.lists(st.none() | values, max_size=4)


@st.composite
def _structs(draw: Any, inner: Any) -> Any:
    names = draw(st.lists(_TEXT, max_size=3, unique=True))
    fields = [(name, *draw(inner)) for name in names]
    kind = pa.struct([(name, field) for name, field, _ in fields])
    return kind, st.fixed_dictionaries({name: st.none() | values for name, _, values in fields})


@st.composite
def _maps(draw: Any, inner: Any) -> Any:
    kind, values = draw(inner)
    entries = st.dictionaries(_TEXT, st.none() | values, max_size=3)
    return pa.map_(pa.string(), kind), entries.map(lambda found: list(found.items()))


# Arrow builds no dictionary-encoded or view values inside lists and structs from Python.
_INSIDE = SCALARS.filter(
    lambda made: not pa.types.is_dictionary(made[0]) and not pa.types.is_string_view(made[0])
)
COLUMNS = SCALARS | st.recursive(
    _INSIDE, lambda inner: st.one_of(_lists(inner), _structs(inner), _maps(inner)), max_leaves=4
)


@st.composite
def tables(draw: Any) -> pa.Table:
    """One to five columns, one to twelve rows, nulls anywhere, cut into chunks anywhere."""
    names = draw(st.lists(_TEXT.filter(bool), min_size=1, max_size=5, unique=True))
    rows = draw(st.integers(1, 12))
    arrays = []
    for _ in names:
        kind, values = draw(COLUMNS)
        column = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
        arrays.append(pa.array(column, kind))
    table = pa.table(arrays, names=names)
    cut = draw(st.integers(0, rows))
    return pa.concat_tables([table.slice(0, cut), table.slice(cut)])


def plain(value: Any, kind: pa.DataType) -> Any:
    """The value that a payload holds for a Python value of an Arrow array of this type."""
    if value is None:
        return None
    if pa.types.is_map(kind):
        return {name: plain(inner, kind.item_type) for name, inner in value}
    if pa.types.is_struct(kind):
        return {field.name: plain(value[field.name], field.type) for field in kind}
    if isinstance(value, list):
        return [plain(inner, kind.value_type) for inner in value]
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return None if math.isnan(value) else float(value)
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, Decimal):
        digits = f"{value:f}"
        return digits.rstrip("0").rstrip(".") if "." in digits else digits
    if isinstance(value, dt.timedelta):
        return _duration(value)
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value.isoformat()
    digits = "seconds"
    if value.microsecond:
        digits = "microseconds" if value.microsecond % 1000 else "milliseconds"
    zone = "Z" if value.tzinfo is not None else ""
    return value.replace(tzinfo=None).isoformat(timespec=digits) + zone


def _duration(value: dt.timedelta) -> str:
    sign, value = ("-", -value) if value < dt.timedelta(0) else ("", value)
    minutes, seconds = divmod(value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{value.microseconds:06d}".rstrip("0").rstrip(".")
    return f"{sign}P{value.days}DT{hours}H{minutes}M{seconds}{fraction}S"
