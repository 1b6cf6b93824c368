"""Values of a payload as what they were in the table: JSON's values and an Arrow type, read back.

What a payload writes as text, because JSON has no such value, comes back as Python's own type:
aware times, decimals, bytes, numbers beyond 2**53. A value of nanoseconds that Python's types
would cut off is pandas' type, which is one of theirs, or stays text where there is no pandas.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import InvalidOperation
from functools import lru_cache
from importlib import import_module
from typing import Any, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

import pyarrow as pa
from pyarrow import types

from spooled_pipelines.batch.values.arrow_types import is_list, is_string
from spooled_pipelines.batch.values.table_arrays import (
    duration_count,
    integer_reader,
    is_bytes,
    to_bytes,
    to_decimal,
    to_float,
)
from spooled_pipelines.errors import InvalidArgumentError

Read: TypeAlias = Callable[[Any], object]
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)")
_MISFIT = (ValueError, TypeError, OverflowError, InvalidOperation, AttributeError)


def readers_of(schema: pa.Schema) -> Mapping[str, Read | None]:
    """Return what makes a value of each field of JSON's."""
    return {field.name: reader_of(field.type) for field in schema}


def read_row(
    schema: pa.Schema, readers: Mapping[str, Read | None], payload: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a payload's values as what they were, in the table's order.

    Raises:
        InvalidArgumentError: a value is not of its field's type.
    """
    row = {}
    for name, read in readers.items():
        if name not in payload:
            continue
        value = payload[name]
        if value is not None and read is not None:
            try:
                value = read(value)
            except _MISFIT:
                kind = schema.field(name).type
                message = f"field {name!r} of the payload is not of its type {kind}"
                raise InvalidArgumentError(message) from None
        row[name] = value
    return row if len(row) == len(payload) else {**row, **_others(payload, row)}


def _others(payload: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if name not in row}


def reader_of(arrow_type: pa.DataType) -> Read | None:
    """Return what makes a value of this type of JSON's; None where that is the value itself."""
    if types.is_dictionary(arrow_type) or types.is_run_end_encoded(arrow_type):
        return reader_of(arrow_type.value_type)
    if isinstance(arrow_type, pa.BaseExtensionType):
        return UUID if arrow_type.extension_name == "arrow.uuid" else None
    if is_list(arrow_type):
        return _reader_of_lists(reader_of(arrow_type.value_type))
    if types.is_map(arrow_type):
        return _reader_of_maps(reader_of(arrow_type.item_type))
    if types.is_struct(arrow_type):
        fields = map(arrow_type.field, range(arrow_type.num_fields))
        return _reader_of_structs({field.name: reader_of(field.type) for field in fields})
    if types.is_integer(arrow_type):
        return integer_reader(arrow_type)
    if types.is_timestamp(arrow_type):
        zone = None if arrow_type.tz is None else _zone(arrow_type.tz)
        return lambda value: _moment(value, zone)
    return next((read for applies, read in _SCALARS if applies(arrow_type)), None)


def _reader_of_lists(item: Read | None) -> Read:
    if item is None:
        return list
    return lambda values: [None if value is None else item(value) for value in values]


def _reader_of_maps(item: Read | None) -> Read:
    if item is None:
        return dict
    return lambda value: {
        name: None if each is None else item(each) for name, each in value.items()
    }


def _reader_of_structs(fields: Mapping[str, Read | None]) -> Read:
    def read(value: Any) -> object:
        row = {}
        for name, each in fields.items():
            if name in value:
                inner = value[name]
                row[name] = inner if inner is None or each is None else each(inner)
        return row if len(row) == len(value) else {**row, **_others(value, row)}

    return read


def _is(kind: type) -> Read:
    def read(value: Any) -> object:
        if not isinstance(value, kind):
            raise TypeError(value)
        return value

    return read


def _date(value: str) -> object:
    # Arrow's years go on beyond Python's; such a date stays the text that it is.
    return date.fromisoformat(value) if _is_date(value) else value


def _moment(value: str, zone: tzinfo | None) -> object:
    if not _is_date(value):
        return value
    text = value.removesuffix("Z")
    if len(text) > _MICROSECONDS:
        return _pandas("Timestamp", value, zone)
    moment = datetime.fromisoformat(text)
    if zone is None:
        return moment
    try:
        return moment.replace(tzinfo=timezone.utc).astimezone(zone)
    except OverflowError:
        # The first or last day that Python has, of which the zone's is the one beyond.
        return moment.replace(tzinfo=timezone.utc)


def _is_date(value: str) -> bool:
    return value[4:5] == "-" and value[:4].isdigit() and value[:4] != "0000"


def _time(value: str) -> object:
    # Nanoseconds, which neither Python's type nor pandas has, stay the text.
    return time.fromisoformat(value) if len(value) <= len("00:00:00.000000") else value


def _duration(value: str) -> object:
    nanoseconds = duration_count(value, 1_000_000_000)
    if nanoseconds % 1_000:
        return _pandas("Timedelta", value, None)
    try:
        return timedelta(microseconds=nanoseconds // 1_000)
    except OverflowError:
        return value


def _pandas(kind: str, text: str, zone: tzinfo | None) -> object:
    """Return pandas' type of a text with nanoseconds; the text where there is no pandas."""
    try:
        value = getattr(import_module("pandas"), kind)(text)
    except (ImportError, ValueError, OverflowError):
        # There is no pandas, or its type ends a nanosecond before Arrow's.
        return text
    return value if zone is None else value.tz_convert(zone)


@lru_cache(maxsize=256)
def _zone(name: str) -> tzinfo:
    offset = _OFFSET.fullmatch(name)
    if offset is not None:
        sign, hours, minutes = offset.groups()
        distance = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-distance if sign == "-" else distance)
    if name.upper() == "UTC":
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # A zone that this machine does not know: the same moments.
        return timezone.utc


_MICROSECONDS = len("2013-01-31T05:00:00.000000")
_SCALARS: tuple[tuple[Callable[[pa.DataType], bool], Read], ...] = (
    (types.is_boolean, _is(bool)),
    (types.is_floating, to_float),
    (types.is_decimal, to_decimal),
    (is_string, _is(str)),
    (types.is_date, _date),
    (types.is_time, _time),
    (types.is_duration, _duration),
    (is_bytes, to_bytes),
)
