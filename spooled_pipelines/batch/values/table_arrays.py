"""Values of payloads as arrays of the types that they had in the table.

What a payload writes as text comes back exactly: times of any unit and year, durations, decimals,
bytes, and what `on_lossy="string"` let travel so.
"""

from __future__ import annotations

import base64
import json
import re
from calendar import monthrange
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

import pyarrow as pa
from pyarrow import types

from spooled_pipelines.batch.values.arrow_types import is_list, is_string
from spooled_pipelines.batch.values.exact_arrays import MisfitError
from spooled_pipelines.batch.values.iso8601 import PER_SECOND

# Makes of JSON's value, which is not null, what Arrow takes for the type.
_Prepare: TypeAlias = Callable[[Any], object]
_UNFIT = (pa.ArrowException, OverflowError, ValueError, TypeError, ArithmeticError, AttributeError)
_COUNT = re.compile(r"(-?\d+) (?:D|s|ms|us|ns)")
_DATE = re.compile(r"(-?\d{4,})-(\d\d)-(\d\d)")
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d{1,9}))?")
_DURATION = re.compile(r"(-?)P(\d+)DT(\d+)H(\d+)M(\d+)(?:\.(\d{1,9}))?S")


def table_array(
    found: pa.Array | None, values: Callable[[], list[Any]], arrow_type: pa.DataType
) -> pa.Array:
    """Return a field's values as an array of this type.

    Args:
        found: the values, of the type that Arrow infers for JSON's; None where they have none in
            common.
        values: the same as Python has JSON's.
        arrow_type: the type.

    Raises:
        MisfitError: a value, as of a payload that was changed since, is not of the type.
    """
    if found is not None:
        cast = _cast(found, arrow_type)
        if cast is not None:
            return cast
    given = values()
    prepare = _prepare(arrow_type)
    storage = arrow_type.storage_type if _is_extension(arrow_type) else arrow_type
    try:
        prepared = [None if each is None else prepare(each) for each in given]
        array = pa.array(prepared, storage)
    except _UNFIT:
        raise _misfit(given, prepare, storage) from None
    return pa.ExtensionArray.from_storage(arrow_type, array) if array.type != arrow_type else array


def _misfit(values: list[Any], prepare: _Prepare, arrow_type: pa.DataType) -> MisfitError:
    error = MisfitError("", f"is not of type {arrow_type}")
    for index, value in enumerate(values):
        try:
            pa.array([None if value is None else prepare(value)], arrow_type)
        except _UNFIT:  # noqa: PERF203 - each value is tried
            error.index = index
            break
    return error


def _cast(found: pa.Array, arrow_type: pa.DataType) -> pa.Array | None:
    """Return what Arrow casts exactly; None where the values have to be looked at one by one."""
    if not _casts_exactly(found, arrow_type):
        return None
    try:
        return found.cast(arrow_type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _casts_exactly(found: pa.Array, arrow_type: pa.DataType) -> bool:
    kind = found.type
    if _is_extension(arrow_type):
        return False
    if types.is_null(kind) or kind == arrow_type:
        return True
    is_number = types.is_integer(arrow_type) or types.is_floating(arrow_type)
    if types.is_integer(kind) or types.is_float64(kind):
        return bool(is_number)
    if not types.is_string(kind):
        return False
    if types.is_temporal(arrow_type):
        return not types.is_duration(arrow_type)
    return is_string(arrow_type) or types.is_decimal(arrow_type)


def _is_extension(arrow_type: pa.DataType) -> bool:
    return isinstance(arrow_type, pa.BaseExtensionType)


def _prepare(arrow_type: pa.DataType) -> _Prepare:
    if _is_extension(arrow_type):
        return _EXTENSIONS[arrow_type.extension_name]
    if is_list(arrow_type):
        return _prepare_list(_prepare(arrow_type.value_type))
    if types.is_map(arrow_type):
        item = _prepare(arrow_type.item_type)
        return lambda value: [
            (name, None if each is None else item(each)) for name, each in value.items()
        ]
    if types.is_struct(arrow_type):
        fields = map(arrow_type.field, range(arrow_type.num_fields))
        return _prepare_struct({field.name: _prepare(field.type) for field in fields})
    if types.is_integer(arrow_type):
        return integer_reader(arrow_type)
    if types.is_temporal(arrow_type):
        parse = _counts(arrow_type)
        per_second = _per_second(arrow_type)
        return lambda value: parse(value, per_second)
    return next((make for applies, make in _SCALARS if applies(arrow_type)), lambda value: value)


def _prepare_list(item: _Prepare) -> _Prepare:
    return lambda values: [None if value is None else item(value) for value in values]


def _prepare_struct(fields: Mapping[str, _Prepare]) -> _Prepare:
    def prepare(value: Any) -> object:
        return {name: None if each is None else fields[name](each) for name, each in value.items()}

    return prepare


def _per_second(arrow_type: pa.DataType) -> int:
    if types.is_date32(arrow_type):
        return 0
    return PER_SECOND["ms" if types.is_date64(arrow_type) else arrow_type.unit]


def _counts(arrow_type: pa.DataType) -> Callable[[str, int], int]:
    if types.is_duration(arrow_type):
        return duration_count
    return _time if types.is_time(arrow_type) else _moment


def _moment(text: str, per_second: int) -> int:
    """Return a date or a timestamp as its count; of days where `per_second` is 0."""
    counted = _COUNT.fullmatch(text)
    if counted is not None:
        return int(counted[1])
    day, _, rest = text.removesuffix("Z").partition("T")
    match = _DATE.fullmatch(day)
    if match is None:
        raise ValueError(text)
    days = _days(*map(int, match.groups()))
    if not per_second:
        return days
    return days * 86_400 * per_second + (_time(rest, per_second) if rest else 0)


def _days(year: int, month: int, day: int) -> int:
    """Return the days since the epoch of a date of any year."""
    # The calendar repeats itself after 400 years.
    if not 1 <= day <= monthrange(2000 + year % 400, month)[1]:
        raise ValueError(day)
    # Counted from the first of March, so that a leap day is the last of its year.
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)
    return (
        365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 719_469
    )


def _time(text: str, per_second: int) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(text)
    hours, minutes, seconds, digits = match.groups()
    return _scaled(int(hours) * 3_600 + int(minutes) * 60 + int(seconds), digits, per_second)


def duration_count(text: str, per_second: int) -> int:
    """Return an ISO 8601 duration as its count."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(text)
    sign, days, hours, minutes, seconds, digits = match.groups()
    whole = int(days) * 86_400 + int(hours) * 3_600 + int(minutes) * 60 + int(seconds)
    count = _scaled(whole, digits, per_second)
    return -count if sign else count


def _scaled(seconds: int, digits: str | None, per_second: int) -> int:
    nanoseconds = int(f"{digits or '0':0<9}")
    fraction, rest = divmod(nanoseconds * per_second, 1_000_000_000)
    if rest:
        raise ValueError(digits)
    return seconds * per_second + fraction


def integer_reader(arrow_type: pa.DataType) -> Callable[[Any], int]:
    """Return what makes whole numbers of a type, which may be written as text."""
    bits = arrow_type.bit_width
    end = 2**bits if types.is_unsigned_integer(arrow_type) else 2 ** (bits - 1)

    def to_integer(value: Any) -> int:
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise ValueError(value)
        # What `on_lossy="round"` made of the type's last numbers is one too many for it.
        return end - 1 if bits == 64 and value == end else int(value)

    return to_integer


def to_float(value: Any) -> float:
    """Return a number, which may be written as text, such as `Infinity`."""
    if isinstance(value, bool):
        raise TypeError(value)
    return float(value)


def to_decimal(value: Any) -> Decimal:
    """Return a number as it is written: a double's own digits go on for longer."""
    return Decimal(value if isinstance(value, str) else repr(value))


def to_bytes(value: str) -> bytes:
    """Return the bytes of a base64 text."""
    return base64.b64decode(value, validate=True)


def is_bytes(arrow_type: pa.DataType) -> bool:
    """Return whether this is one of Arrow's types of bytes."""
    return bool(
        types.is_binary(arrow_type)
        or types.is_large_binary(arrow_type)
        or types.is_fixed_size_binary(arrow_type)
        or types.is_binary_view(arrow_type)
    )


_EXTENSIONS: Mapping[str, _Prepare] = {
    "arrow.uuid": lambda value: UUID(value).bytes,
    "arrow.bool8": lambda value: int(bool(value)),
    "arrow.json": json.dumps,
}
_SCALARS: tuple[tuple[Callable[[pa.DataType], bool], _Prepare], ...] = (
    (types.is_floating, to_float),
    (types.is_decimal, to_decimal),
    (is_bytes, to_bytes),
)
