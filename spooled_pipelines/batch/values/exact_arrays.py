"""Arrow arrays of JSON values that hold each value as it is."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from itertools import chain
from typing import Any, NoReturn, TypeVar

import pyarrow as pa
from pyarrow import types

from spooled_pipelines.batch.values.arrow_types import is_list

_T = TypeVar("_T")
# Makes of a value at a path the one that Arrow takes for the type, or raises MisfitError.
_Prepare = Callable[[Any, str], object]
_UNFIT = (pa.ArrowException, OverflowError, ValueError, TypeError)
_FORMATS = {16: "<e", 32: "<f", 64: "<d"}


class MisfitError(ValueError):
    """A value that would not be the same in an array of the type.

    Attributes:
        path: from the value that was given to the one that does not fit: "", ".name", "[0]".
        index: of the value that was given, among the others.
        reason: why it does not fit, without the value: "is not of type int64".
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} {reason}".strip())
        self.path = path
        self.reason = reason
        self.index = 0


def exact_array(values: list[Any], arrow_type: pa.DataType) -> pa.Array:
    """Return an array of JSON values, none of which is changed by its type.

    A fraction may be rounded to the digits that the type of floating point has. Texts become
    times, numbers or decimals where the type says so.

    Raises:
        MisfitError: a value is of another type, or does not fit.
    """
    prepare = _prepare(arrow_type)
    prepared: list[object] = []
    try:
        prepared.extend(None if value is None else prepare(value, "") for value in values)
    except MisfitError as error:
        error.index = len(prepared)
        raise
    try:
        return _converted(prepared, arrow_type)
    except _UNFIT:
        # One by one, since some may be texts of times, and others numbers.
        arrays = [_one(value, index, arrow_type) for index, value in enumerate(prepared)]
        return pa.concat_arrays(arrays)


def bool_as_number(values: list[Any], arrow_type: pa.DataType, path: str = "") -> str | None:
    """Return the path to a bool of which Arrow makes a number: it takes `[0.0, False]` for floats.

    The type is the one that Arrow inferred for the values.
    """
    if types.is_floating(arrow_type):
        return path if bool in map(type, values) else None
    present = [value for value in values if value is not None]
    if types.is_struct(arrow_type):
        for field in map(arrow_type.field, range(arrow_type.num_fields)):
            inner = [value.get(field.name) for value in present]
            found = bool_as_number(inner, field.type, f"{path}.{field.name}")
            if found is not None:
                return found
    if types.is_list(arrow_type):
        inner = list(chain.from_iterable(present))
        return bool_as_number(inner, arrow_type.value_type, f"{path}[]")
    return None


def _converted(values: list[object], arrow_type: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, arrow_type)
    except _UNFIT:
        # Times are texts in JSON.
        return pa.array(values).cast(arrow_type)


def _one(value: object, index: int, arrow_type: pa.DataType) -> pa.Array:
    try:
        return _converted([value], arrow_type)
    except _UNFIT:
        error = MisfitError("", f"is not of type {arrow_type}")
        error.index = index
        raise error from None


def _prepare(arrow_type: pa.DataType) -> _Prepare:
    """Return what prepares values for an array of the type."""

    def misfit(path: str) -> NoReturn:
        raise MisfitError(path, f"is not of type {arrow_type}")

    if types.is_dictionary(arrow_type):
        return _prepare(arrow_type.value_type)
    if types.is_struct(arrow_type):
        return _prepare_struct(arrow_type, misfit)
    if types.is_map(arrow_type):
        return _prepare_map(arrow_type, misfit)
    if is_list(arrow_type):
        return _prepare_list(arrow_type, misfit)
    for applies, prepare in _SCALARS:
        if applies(arrow_type):
            return lambda value, path: prepare(value, arrow_type, lambda: misfit(path))
    return lambda value, _: value


def _prepare_struct(arrow_type: pa.StructType, misfit: Callable[[str], NoReturn]) -> _Prepare:
    fields = map(arrow_type.field, range(arrow_type.num_fields))
    inner = {field.name: _prepare(field.type) for field in fields}

    def prepare(value: object, path: str) -> object:
        if not isinstance(value, dict):
            misfit(path)
        for name in value:
            if name not in inner:
                raise MisfitError(f"{path}.{name}", f"is not a field of {arrow_type}")
        return {
            name: None if each is None else inner[name](each, f"{path}.{name}")
            for name, each in value.items()
        }

    return prepare


def _prepare_map(arrow_type: pa.MapType, misfit: Callable[[str], NoReturn]) -> _Prepare:
    key, item = _prepare(arrow_type.key_type), _prepare(arrow_type.item_type)

    def prepare(value: object, path: str) -> object:
        if not isinstance(value, dict):
            misfit(path)
        return [
            (key(name, path), None if each is None else item(each, f"{path}.{name}"))
            for name, each in value.items()
        ]

    return prepare


def _prepare_list(arrow_type: pa.ListType, misfit: Callable[[str], NoReturn]) -> _Prepare:
    item = _prepare(arrow_type.value_type)

    def prepare(value: object, path: str) -> object:
        if not isinstance(value, list):
            misfit(path)
        return [
            None if each is None else item(each, f"{path}[{index}]")
            for index, each in enumerate(value)
        ]

    return prepare


def _bool(value: object, _: pa.DataType, misfit: Callable[[], NoReturn]) -> object:
    return value if isinstance(value, bool | str) else misfit()


def _integer(value: object, _: pa.DataType, misfit: Callable[[], NoReturn]) -> object:
    if isinstance(value, bool):
        misfit()
    if isinstance(value, str):
        number = _number(int, value, misfit)
        # "00501" is another text than "501".
        return number if str(number) == value else misfit()
    if isinstance(value, int):
        # Arrow knows the range.
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else misfit()


def _floating(value: object, arrow_type: pa.DataType, misfit: Callable[[], NoReturn]) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        misfit()
    number: float = _number(float, value, misfit)
    if not math.isfinite(number):
        misfit()
    form = _FORMATS[arrow_type.bit_width]
    try:
        (kept,) = struct.unpack(form, struct.pack(form, number))
    except OverflowError:
        misfit()
    is_rounded_fraction = not number.is_integer() and kept != 0
    return number if kept == number or is_rounded_fraction else misfit()


def _decimal(value: object, _: pa.DataType, misfit: Callable[[], NoReturn]) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        misfit()
    # As it is written: a double's own digits go on for longer.
    text = value if isinstance(value, str) else repr(value)
    return _number(Decimal, text, misfit)


def _text(value: object, _: pa.DataType, misfit: Callable[[], NoReturn]) -> object:
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, bool | int | float) else misfit()


def _time(value: object, _: pa.DataType, misfit: Callable[[], NoReturn]) -> object:
    if isinstance(value, bool):
        misfit()
    if isinstance(value, float):
        return int(value) if value.is_integer() else misfit()
    return value if isinstance(value, str | int) else misfit()


def _number(parse: Callable[[Any], _T], value: object, misfit: Callable[[], NoReturn]) -> _T:
    try:
        return parse(value)
    except (ValueError, InvalidOperation, OverflowError):
        misfit()


_Scalar = Callable[[Any, pa.DataType, Callable[[], NoReturn]], object]
_SCALARS: tuple[tuple[Callable[[pa.DataType], bool], _Scalar], ...] = (
    (types.is_boolean, _bool),
    (types.is_integer, _integer),
    (types.is_floating, _floating),
    (types.is_decimal, _decimal),
    (types.is_temporal, _time),
    (types.is_string, _text),
    (types.is_large_string, _text),
    (types.is_string_view, _text),
)
