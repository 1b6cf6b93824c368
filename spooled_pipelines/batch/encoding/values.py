"""Arrow values as google.protobuf.Value, exactly, or not at all.

A payload's number is a double, its text is UTF-8, and it knows no bytes and no times. What does
not fit is a LossyValueError, or, with `on_lossy="string"`, the text that says it exactly, or, with
`on_lossy="null"`, null.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NoReturn, TypeAlias, get_args

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spooled_pipelines.batch.encoding import iso8601, json_values, nested
from spooled_pipelines.batch.encoding.columns import Cells, of_array, tagged
from spooled_pipelines.batch.encoding.protobuf_wire import (
    VALUE_FALSE,
    VALUE_NULL,
    VALUE_NUMBER,
    VALUE_TEXT,
    VALUE_TRUE,
    with_length,
)
from spooled_pipelines.batch.source.type_compat import is_json
from spooled_pipelines.errors import InvalidArgumentError, LossyValueError
from spooled_pipelines.wire.limits import EXACT_INTEGER_MAX

Lossy: TypeAlias = Literal["raise", "string", "null"]
# For all columns, or by the name of each; "raise" for those without.
OnLossy: TypeAlias = Lossy | Mapping[str, Lossy]
LOSSY = get_args(Lossy)


@dataclass(frozen=True)
class Place:
    """Where an array's values come from, for the error that names one of them.

    Attributes:
        path: the column's name, with the path inside it where it is nested.
        row_of: the row in the input of the value at an index of the array.
        on_lossy: what to do with a value that does not fit.
        depth: messages around the value's content on the wire, as a payload's Struct counts 1.
    """

    path: str
    row_of: Callable[[int], int]
    on_lossy: Lossy
    depth: int = 3

    def refuse(self, index: int, value: str, why: str) -> NoReturn:
        row = self.row_of(index)
        shown = value if len(value) <= 60 else value[:57] + "..."
        raise LossyValueError(
            f"column {self.path!r}, row {row}: {shown} {why}. Nothing was sent.",
            hint='Change the column, or pass on_lossy="string" to send such values as text, or '
            '"null" to leave them out.',
            column=self.path,
            row=row,
            value=shown,
        )

    def unfit(self, index: int, text: str, why: str) -> bytes:
        """The Value message in place of a single value that a payload cannot hold."""
        if self.on_lossy == "raise":
            self.refuse(index, text, why)
        if self.on_lossy == "null":
            return VALUE_NULL
        return with_length(VALUE_TEXT, text.encode())


def value_cells(array: Any, place: Place) -> Cells:
    """The Value message of each entry; `or_null` is set, nulls are null_value.

    Raises:
        LossyValueError: a value does not fit, and `place.on_lossy` is "raise".
        InvalidArgumentError: no payload can hold this type.
    """
    array = plain(array)
    kind = array.type
    if is_json(kind):
        return of_array(json_values.json_values(array.storage, place)).or_null(VALUE_NULL)
    if types.is_null(kind):
        return Cells((VALUE_NULL,), len(VALUE_NULL))
    if types.is_boolean(kind):
        made = pc.if_else(array, pa.scalar(VALUE_TRUE), pa.scalar(VALUE_FALSE))
        return Cells((made,), 2, VALUE_NULL)
    if types.is_integer(kind):
        return _integers(array, place)
    if types.is_floating(kind):
        return _floats(array.cast(pa.float64()), place)
    if types.is_nested(kind):
        return nested.cells(array, place, value_cells)
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return _bytes(array, place)
    if types.is_temporal(kind):
        return _times(array, place)
    return _text(as_text(array, place.path))


def as_text(array: Any, path: str) -> Any:
    """Text, decimals and times as text."""
    kind = array.type
    if types.is_string(kind) or types.is_large_string(kind):
        return array
    if types.is_timestamp(kind):
        return iso8601.timestamp_text(array)
    if types.is_date(kind):
        return iso8601.date_text(array)
    if types.is_time(kind):
        return iso8601.time_text(array)
    if types.is_duration(kind):
        return iso8601.duration_text(array)
    if types.is_decimal(kind):
        return _digits(array.cast(pa.string()))
    raise InvalidArgumentError(
        f"column {path!r} is of type {kind}, which a payload cannot hold. "
        "Leave it out with payload=[...], or convert it before."
    )


def plain(array: Any) -> Any:
    """The same values without what only says how they are stored."""
    while True:
        kind = array.type
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        elif isinstance(kind, pa.BaseExtensionType):
            read = _EXTENSIONS.get(kind.extension_name)
            if read is None:
                return array
            array = read(array)
        elif types.is_dictionary(kind):
            array = array.dictionary_decode()
        elif types.is_run_end_encoded(kind):
            array = pc.run_end_decode(array)
        elif types.is_string_view(kind):
            array = array.cast(pa.string())
        elif types.is_binary_view(kind):
            array = array.cast(pa.binary())
        else:
            return array


def _uuid_text(array: Any) -> Any:
    texts = [None if value is None else str(value) for value in array.to_pylist()]
    return pa.array(texts, pa.string())


# Extension types whose meaning is known; what another one's storage means nobody here can say.
_EXTENSIONS: dict[str, Callable[[Any], Any]] = {
    "arrow.uuid": _uuid_text,
    "arrow.bool8": lambda array: array.storage.cast(pa.bool_()),
}


def _digits(texts: Any) -> Any:
    """A decimal's text without exponent and without zeros at its end: the same for a value
    whatever scale its column has, and so whatever stands beside it."""
    odd = pc.fill_null(pc.match_substring(texts, "E"), False)
    if pc.any(odd).as_py():
        made = [None if text is None else f"{Decimal(text):f}" for text in texts.to_pylist()]
        texts = pa.array(made, pa.string())
    fraction = pc.match_substring(texts, ".")
    if not pc.any(fraction).as_py():
        return texts
    trimmed = pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), ".")
    trimmed = pc.if_else(pc.equal(trimmed, "-0"), "0", trimmed)
    return pc.if_else(fraction, trimmed, texts)


# Thirty thousand years.
_DAYS_MAX = 30_000 * 365


def _times(array: Any, place: Place) -> Cells:
    texts = as_text(array, place.path)
    if _has_dates(array):
        return _text(texts)
    # Arrow says in words what it has no date for.
    beyond = pc.starts_with(texts, "<")
    if not pc.any(beyond).as_py():
        return _text(texts)
    counts = array.cast(pa.int32()) if types.is_date32(array.type) else array
    unit = getattr(array.type, "unit", "D" if types.is_date32(array.type) else "ms")
    named = pc.binary_join_element_wise(counts.cast(pa.int64()).cast(pa.string()), unit, " ")
    if place.on_lossy == "raise":
        index = pc.index(beyond, True).as_py()
        place.refuse(index, named[index].as_py(), "is a time that has no date")
    return _patched(_text(texts), beyond, named, place)


def _has_dates(array: Any) -> bool:
    """Whether all values are surely within the years that Arrow can print."""
    kind = array.type
    if types.is_date32(kind):
        per_day = 1
    elif types.is_date64(kind):
        per_day = 86_400_000
    elif types.is_timestamp(kind):
        per_day = 86_400 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
    else:
        return True
    bounds = pc.min_max(array.view(pa.int32() if types.is_date32(kind) else pa.int64()))
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    return low is None or (low > -_DAYS_MAX * per_day and high < _DAYS_MAX * per_day)


def _integers(array: Any, place: Place) -> Cells:
    lossy = None
    if array.type.bit_width == 64:
        bounds = pc.min_max(array)
        low, high = bounds["min"].as_py(), bounds["max"].as_py()
        if low is not None and (low < -EXACT_INTEGER_MAX or high > EXACT_INTEGER_MAX):
            lossy = pc.greater(array, pa.scalar(EXACT_INTEGER_MAX, array.type))
            if low < 0:
                below = pc.less(array, pa.scalar(-EXACT_INTEGER_MAX, array.type))
                lossy = pc.or_(lossy, below)
    if lossy is not None and place.on_lossy == "raise":
        index = pc.index(lossy, True).as_py()
        why = "is beyond ±2**53, where a payload's number (a double) is not exact"
        place.refuse(index, str(array[index].as_py()), why)
    numbers = _number_cells(array.cast(pa.float64(), safe=False))
    return numbers if lossy is None else _patched(numbers, lossy, array.cast(pa.string()), place)


def _floats(array: Any, place: Place) -> Cells:
    # NaN is how pandas says null, and JSON has neither NaN nor infinity.
    missing = pc.is_nan(array)
    if pc.any(missing).as_py():
        array = pc.if_else(missing, pa.scalar(None, pa.float64()), array)
    infinite = pc.is_inf(array)
    if not pc.any(infinite).as_py():
        return _number_cells(array)
    names = pc.if_else(pc.greater(array, 0.0), "Infinity", "-Infinity")
    if place.on_lossy == "raise":
        index = pc.index(infinite, True).as_py()
        place.refuse(index, names[index].as_py(), "is not a number that a payload can hold")
    return _patched(_number_cells(array), infinite, names, place)


def _number_cells(doubles: Any) -> Cells:
    # A double on the wire is its eight bytes, little endian, as they are in Arrow's buffer.
    return Cells((VALUE_NUMBER, doubles.view(pa.binary(8)).cast(pa.binary())), 9, VALUE_NULL)


def _patched(cells: Cells, where: Any, texts: Any, place: Place) -> Cells:
    """The texts, or nulls, where `where` is true, else the cells."""
    rows = len(where)
    if place.on_lossy == "null":
        texts = pa.nulls(rows, pa.string())
    array = pc.if_else(where.fill_null(False), _text(texts).joined(rows), cells.joined(rows))
    return of_array(array)


def _text(array: Any) -> Cells:
    pieces = of_array(array.cast(pa.binary()))
    return pieces.wrapped(tagged(VALUE_TEXT)).or_null(VALUE_NULL)


def _bytes(array: Any, place: Place) -> Cells:
    if array.null_count == len(array) or place.on_lossy == "null":
        return Cells((VALUE_NULL,), len(VALUE_NULL))
    if place.on_lossy == "raise":
        index = pc.index(array.is_valid(), True).as_py()
        size = len(array[index].as_py())
        place.refuse(index, f"{size} bytes", "are binary, which a payload cannot hold")
    texts = [None if v is None else base64.b64encode(v).decode() for v in array.to_pylist()]
    return _text(pa.array(texts, pa.string()))
