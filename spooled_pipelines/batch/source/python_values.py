"""Python values as one Arrow array, each as it is.

Arrow finds one type for all values of a column, and makes them alike for that: a date of a
datetime that stands beside dates, fields with nulls where objects have different ones, 1.50 of a
decimal 1.5 beside 2.25. What a row says would then depend on the rows beside it, and so would its
key. So values of different types, and objects that are not alike, travel as JSON.
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import Enum
from itertools import chain
from numbers import Integral, Real
from typing import Any

import pyarrow as pa

from spooled_pipelines.batch.source.json_texts import json_texts
from spooled_pipelines.batch.values.arrow_types import storage_array, to_text
from spooled_pipelines.batch.values.exact_json import (
    InexactNumber,
    encode_with_exact_numbers,
    mark_decimal,
)
from spooled_pipelines.text import one_line, shown

# Arrow's decimals have as many.
_DIGITS_MAX = 76
# The first that a type belongs to; a datetime is a date for Python, and a bool is a number.
_FAMILIES: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("bool", (bool,)),
    ("text", (str,)),
    ("bytes", (bytes, bytearray, memoryview)),
    ("time", (dt.datetime,)),
    ("date", (dt.date,)),
    ("time of day", (dt.time,)),
    ("duration", (dt.timedelta,)),
    ("decimal", (Decimal,)),
    ("uuid", (uuid.UUID,)),
    ("object", (Mapping,)),
    ("list", (list, tuple)),
    ("number", (Integral, Real)),
)
_NUMPY_FAMILIES = {"bool": "bool", "bool_": "bool", "datetime64": "time", "timedelta64": "duration"}


def to_array(values: list[Any]) -> pa.Array:
    """Return one array of the values; None is null.

    Raises:
        ValueError, TypeError, pyarrow.ArrowException: Arrow does not know their type.
        NotJsonError: they have no common type, and one of them cannot be JSON either.
    """
    classes = _classes(values)
    if any(cls.__name__ in ("NaTType", "NAType") for cls in classes):
        values = [
            None if type(value).__name__ in ("NaTType", "NAType") else value for value in values
        ]
        classes = _classes(values)
    families = {_family(cls) for cls in classes}
    if len(families) > 1 or InexactNumber in classes:
        return _json_array(values)
    if families & {"object", "list"}:
        return _nested_array(values)
    if families == {"decimal"} and not _have_one_scale(values):
        return _json_array(values)
    _refuse_mixed_zones(values, families)
    try:
        arrow_type = _nanosecond_type(values, families)
        return pa.array(_arrow_values(values, classes), arrow_type, from_pandas=False)
    except (OverflowError, TypeError, pa.ArrowException):
        if not families <= {"number", "time", "duration"}:
            raise
        # Integers beyond 64 bits, times that nanoseconds cannot count, or of several units of
        # numpy's: each is said by itself.
        return _json_array(values)


def _classes(values: Iterable[Any]) -> set[type]:
    return set(map(type, values)) - {type(None)}


def _family(cls: type) -> str:
    if cls.__module__ == "numpy" and cls.__name__ in _NUMPY_FAMILIES:
        # Before the others: for numpy a duration is a number, too.
        return _NUMPY_FAMILIES[cls.__name__]
    for family, classes in _FAMILIES:
        if issubclass(cls, classes):
            return family
    if issubclass(cls, (set, frozenset)):
        raise TypeError("a set has no order: pass sorted(value)")
    return f"{cls.__module__}.{cls.__qualname__}"


def _have_one_scale(values: Iterable[Decimal | None]) -> bool:
    """Return whether decimals have as many digits after the point as each other: 1.5 is not 1.50.

    Arrow's types of decimals have one number of digits for a whole column.
    """
    exponents = {value.as_tuple().exponent for value in values if value is not None}
    # NaN and infinity have letters, and Arrow has no such decimals.
    scales = {min(each, 0) if isinstance(each, int) else None for each in exponents}
    return len(scales) <= 1 and None not in scales


def _refuse_mixed_zones(values: list[Any], families: set[str]) -> None:
    if families & {"time", "time of day"}:
        # NaT, which differs from itself, is null.
        times = [value for value in values if value is not None and value == value]
        aware = {getattr(value, "tzinfo", None) is not None for value in times}
        if len(aware) > 1:
            raise ValueError("times with a zone and times without")
        if aware == {True} and "time of day" in families:
            raise ValueError("a time of day with a zone, which Arrow would drop")


def _nanosecond_type(values: list[Any], families: set[str]) -> pa.DataType | None:
    """Return a type that keeps the nanoseconds of pandas' times, which Arrow's guess does not."""
    if families == {"time"} and any(getattr(value, "nanosecond", 0) for value in values):
        aware = any(getattr(value, "tzinfo", None) is not None for value in values)
        return pa.timestamp("ns", "UTC" if aware else None)
    if families == {"duration"} and any(getattr(value, "nanoseconds", 0) for value in values):
        return pa.duration("ns")
    return None


def _arrow_values(values: list[Any], classes: set[type]) -> list[Any]:
    if any(cls.__name__ == "NaTType" for cls in classes):
        return [value if value == value else None for value in values]
    if any(issubclass(cls, Enum) for cls in classes):
        return [value.value if isinstance(value, Enum) else value for value in values]
    return values


def _nested_array(values: list[Any]) -> pa.Array:
    if _are_alike(values):
        try:
            return pa.array(values, from_pandas=False)
        except (OverflowError, TypeError, pa.ArrowException):
            # One by one, as above.
            pass
    return _json_array(values)


class NotJsonError(Exception):
    """A value that cannot be JSON, at `index` of its column."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        self.reason = reason


def _json_array(values: list[Any]) -> pa.Array:
    texts = json_texts(values, _json_text_or_null)
    return pa.ExtensionArray.from_storage(pa.json_(pa.string()), texts)


def _are_alike(values: list[Any]) -> bool:
    """Return whether Arrow's type for the values says of each what it is, and adds nothing."""
    values = [value for value in values if value is not None]
    classes = _classes(values)
    if not classes:
        return True
    families = {_family(cls) for cls in classes}
    if len(families) > 1:
        return False
    if families == {"list"}:
        return _are_alike(list(chain.from_iterable(values)))
    if families != {"object"}:
        _refuse_mixed_zones(values, families)
        if InexactNumber in classes or _nanosecond_type(values, families) is not None:
            return False
        if families == {"decimal"} and not _have_one_scale(values):
            return False
        # Arrow knows UUIDs, enums and NaT only at the top of a column.
        return families != {"uuid"} and _arrow_values(values, classes) is values
    names = values[0].keys()
    if not classes <= {dict} or not all(value.keys() == names for value in values):
        return False
    _check_names(names)
    return all(_are_alike([value[name] for value in values]) for name in names)


def _check_names(names: Iterable[Any]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"an object has the key {name!r}, and names are texts")


def _json_text_or_null(value: object, index: int) -> str | None:
    try:
        if isinstance(value, float) and math.isnan(value):
            return None
        jsonable = _to_jsonable(value)
        return None if jsonable is None else encode_with_exact_numbers(jsonable)
    except (TypeError, ValueError, OverflowError, pa.ArrowException) as error:
        raise NotJsonError(index, one_line(error)) from None


def _to_jsonable(value: object) -> object:
    if type(value) in (str, int, float, bool, InexactNumber) or value is None:
        return value
    if isinstance(value, Mapping):
        _check_names(value)
        return {name: _to_jsonable(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_jsonable(inner) for inner in value]
    if isinstance(value, Enum):
        return _to_jsonable(value.value)
    return _scalar_to_jsonable(value)


def _scalar_to_jsonable(value: object) -> object:
    if type(value).__module__ == "numpy":
        plain = _of_numpy(value)
        if plain is not value:
            return _to_jsonable(plain)
    if isinstance(value, Decimal) and value.is_finite() and value.adjusted() < _DIGITS_MAX:
        text = f"{value:f}"
        if len(text) <= _DIGITS_MAX:
            return mark_decimal(text if value else text.lstrip("-"))
    if isinstance(value, Decimal) and not value.is_finite():
        return None if value.is_nan() else float(value)
    family = _family(type(value))
    if family in ("time", "date", "time of day", "duration", "decimal", "uuid"):
        _refuse_mixed_zones([value], {family})
        arrow_type = _nanosecond_type([value], {family})
        text = to_text(storage_array(pa.array([value], arrow_type)), "").to_pylist()[0]
        return mark_decimal(text) if family == "decimal" else text
    if family == "text":
        return str(value)
    if family == "number" and isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        if value != float(value):
            raise TypeError(f"{shown(value)} has more digits than a payload's number (a double)")
        return float(value)
    raise TypeError(
        f"a value of type {type(value).__name__} cannot stand beside values of other types"
    )


def _of_numpy(value: Any) -> object:
    """Return the same as Python has it; the value itself where Python has nothing for it."""
    is_time = value.dtype.kind in "mM"
    if is_time and value.shape:
        # Of nanoseconds numpy makes plain numbers.
        return list(value)
    plain = value.tolist()
    return value if type(plain) is type(value) or (is_time and isinstance(plain, int)) else plain
