"""Payloads as columns: those of a table share a shape, which is found once and checked by column.

The shape is which fields a payload has, in which order. Payloads of a few other shapes are read in
the same way; all that is left goes through protobuf and Python, with the same columns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import types

from spooled_pipelines.batch.decoding.wire_bytes import (
    BOOL,
    LIST,
    NULL,
    NUMBER,
    STRUCT,
    TEXT,
    FieldValues,
    WireBytes,
    field_names,
)
from spooled_pipelines.batch.values.exact_arrays import bool_as_number
from spooled_pipelines.rpc.struct import from_list_value, from_struct
from spooled_pipelines.wire.limits import EXACT_INTEGER_MAX
from spooled_pipelines.wire.well_known import ListValue, Struct

if TYPE_CHECKING:
    import numpy.typing as npt

# Values that have no type in common.
MIXED = None
_UNFIT = (pa.ArrowException, OverflowError, ValueError, TypeError)
# A shape of fewer rows is not worth a pass over what is left; nor is one more shape than these.
_SHAPE_ROWS, _SHAPES_MAX = 16, 8


@dataclass(frozen=True)
class PayloadColumns:
    """The fields of many payloads, by name.

    Attributes:
        payloads: serialized Structs; null where there is none.
        arrays: each field's values, as Arrow infers their type from JSON's; `MIXED` where they have
            none in common.
    """

    payloads: pa.BinaryArray
    arrays: dict[str, pa.Array | None]

    @cached_property
    def objects(self) -> list[dict[str, Any]]:
        """The payloads as Python's values, {} where there is none."""
        return [{} if each is None else _object(each) for each in self.payloads.to_pylist()]

    def values(self, name: str) -> list[Any]:
        """Return a field's values as Python's."""
        return [each.get(name) for each in self.objects]


class TooManyFieldsError(ValueError):
    """Structs that have more fields together than was allowed."""


def decode_columns(
    payloads: pa.BinaryArray, only: Collection[str] | None = None, fields_max: int | None = None
) -> PayloadColumns:
    """Return the fields of serialized Structs, or only these of them.

    What is in a field is `MIXED` as well where there are more than `fields_max` names inside.

    Raises:
        google.protobuf.message.DecodeError: one is malformed.
        TooManyFieldsError: they have more than `fields_max`, and all are wanted.
    """
    present = payloads.drop_null() if payloads.null_count else payloads
    arrays = _columns(present, only, fields_max) if len(present) else {}
    if len(present) < len(payloads):
        is_null = payloads.is_null().to_numpy(zero_copy_only=False)
        arrays = {
            name: MIXED if array is MIXED else _spread(array, ~is_null)
            for name, array in arrays.items()
        }
    return PayloadColumns(payloads, arrays)


def infer(values: list[Any], fields_max: int | None = None) -> pa.Array | None:
    """Return values of JSON as an array of the type that Arrow infers, or `MIXED`."""
    if fields_max is not None and _has_more_names(values, fields_max):
        return MIXED
    try:
        array = pa.array(values)
        in_order = _in_order(array.type)
        # By Arrow the fields of objects are in the order in which it meets them.
        array = array if array.type.equals(in_order) else pa.array(values, in_order)
    except _UNFIT:
        return MIXED
    is_exact = isinstance(array, pa.Array) and bool_as_number(values, array.type) is None
    return array if is_exact else MIXED


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that holds the values of both, or `MIXED`."""
    if one.equals(other):
        return one
    schemas = [pa.schema([("x", arrow_type)]) for arrow_type in (one, other)]
    try:
        unified = pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return MIXED
    return _in_order(unified.field(0).type)


def _in_order(arrow_type: pa.DataType) -> pa.DataType:
    """Return the type with the fields of its structs by name: on the wire they have no order."""
    if types.is_struct(arrow_type):
        fields = sorted(arrow_type, key=lambda field: field.name)
        return pa.struct([field.with_type(_in_order(field.type)) for field in fields])
    if types.is_list(arrow_type):
        return pa.list_(_in_order(arrow_type.value_type))
    return arrow_type


def _has_more_names(values: list[Any], most: int) -> bool:
    names = set[str]()
    inside: list[Iterable[Any]] = [values]
    while inside and len(names) <= most:
        for value in inside.pop():
            if isinstance(value, dict):
                names.update(value)
                inside.append(value.values())
            elif isinstance(value, list):
                inside.append(value)
    return len(names) > most


def _columns(
    payloads: pa.BinaryArray, only: Collection[str] | None, fields_max: int | None
) -> dict[str, pa.Array | None]:
    """Return the fields of payloads, none of which is null."""
    blob = WireBytes(payloads)
    left = np.arange(len(payloads))
    parts: list[tuple[npt.NDArray[np.int64], dict[str, pa.Array | None]]] = []
    try:
        while len(left) >= _SHAPE_ROWS and len(parts) < _SHAPES_MAX:
            names = field_names(payloads[left[0]].as_py())
            if names is None:
                break
            fits, fields = blob.read_fields(blob.starts[left], blob.ends[left], names)
            rows = np.flatnonzero(fits)
            if len(rows) < _SHAPE_ROWS:
                break
            texts = [name.decode() for name in names]
            _bound(texts, only, fields_max)
            arrays = {
                name: _array(blob, values if fits.all() else values.take(rows), fields_max)
                for name, values in zip(texts, fields, strict=True)
                if only is None or name in only
            }
            parts.append((left[rows], arrays))
            left = left[~fits]
    except pa.ArrowInvalid:
        # A text is not UTF-8, which protobuf says better.
        parts, left = [], np.arange(len(payloads))
    if len(left):
        parts.append((left, _slowly(payloads.take(left).to_pylist(), only, fields_max)))
    return parts[0][1] if len(parts) == 1 else _joined(payloads, parts, fields_max)


def _bound(names: Collection[str], only: Collection[str] | None, fields_max: int | None) -> None:
    if only is None and fields_max is not None and len(names) > fields_max:
        raise TooManyFieldsError


def _slowly(
    payloads: Iterable[bytes], only: Collection[str] | None, fields_max: int | None
) -> dict[str, pa.Array | None]:
    """Return the same by way of protobuf's messages and Python's values."""
    objects = [_object(payload) for payload in payloads]
    if only is not None:
        objects = [{name: each[name] for name in only if name in each} for each in objects]
    names = dict.fromkeys(name for each in objects for name in each)
    _bound(names, only, fields_max)
    array = infer(objects, fields_max)
    if array is not MIXED and types.is_struct(array.type):
        return dict(zip((field.name for field in array.type), array.flatten(), strict=True))
    return {name: infer([each.get(name) for each in objects], fields_max) for name in names}


def _joined(
    payloads: pa.BinaryArray,
    parts: list[tuple[npt.NDArray[np.int64], dict[str, pa.Array | None]]],
    fields_max: int | None,
) -> dict[str, pa.Array | None]:
    """Return the columns of all rows, of those of some rows each."""
    place = np.empty(len(payloads), np.int64)
    place[np.concatenate([rows for rows, _ in parts])] = np.arange(len(payloads))
    joined: dict[str, pa.Array | None] = {}
    for name in dict.fromkeys(name for _, arrays in parts for name in arrays):
        column = _concatenated([each.get(name, pa.nulls(len(rows))) for rows, each in parts])
        if isinstance(column, pa.Array):
            joined[name] = column.take(pa.array(place))
        else:
            values = [_object(each).get(name) for each in payloads.to_pylist()]
            joined[name] = infer(values, fields_max) if column else MIXED
    return joined


def _concatenated(arrays: list[pa.Array | None]) -> pa.Array | bool:
    """Return one array of the type of all; else whether their values may have one in common."""
    exact = [array for array in arrays if array is not MIXED]
    arrow_type: pa.DataType | None = pa.null() if len(exact) == len(arrays) else MIXED
    for array in exact:
        arrow_type = MIXED if arrow_type is MIXED else common_type(arrow_type, array.type)
    if arrow_type is MIXED:
        return False
    same = [cast(array, arrow_type) for array in exact]
    return True if any(array is None for array in same) else pa.concat_arrays(same)


def cast(array: pa.Array, arrow_type: pa.DataType) -> pa.Array | None:
    """Return an array as the type that it has in common with others; None where Arrow cannot."""
    if array.type.equals(arrow_type):
        return array
    if types.is_null(array.type):
        return pa.nulls(len(array), arrow_type)
    if types.is_nested(arrow_type) and "null" in f"{array.type} {arrow_type}":
        # The cast from lists of nulls makes arrays that cannot be read.
        return None
    try:
        return array.cast(arrow_type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        # Older versions of Arrow do not put the fields of structs in another order.
        return None


def _array(blob: WireBytes, values: FieldValues, fields_max: int | None) -> pa.Array | None:
    """Return one field's values, or `MIXED`."""
    is_null = values.kinds == NULL
    kinds = np.bincount(values.kinds, minlength=LIST + 1)
    kinds[NULL] = 0
    (present,) = np.nonzero(kinds)
    if len(present) > 1:
        return MIXED
    if not len(present):
        return pa.nulls(len(is_null))
    (kind,) = present
    mask = is_null if is_null.any() else None
    if kind == TEXT:
        return blob.contents(values).cast(pa.string())
    if kind == BOOL:
        return pa.array(blob.bools(values.starts), mask=mask)
    if kind == NUMBER:
        return _numbers(blob.numbers(values.starts), mask)
    contents = blob.contents(values).drop_null()
    array = (_structs if kind == STRUCT else _lists)(contents, fields_max)
    return array if array is MIXED or mask is None else _spread(array, ~mask)


def _numbers(
    numbers: npt.NDArray[np.float64], mask: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    """Return numbers as they are in JSON: integers where all are whole and exact."""
    if mask is not None:
        numbers[mask] = 0.0
    if ((np.trunc(numbers) == numbers) & (np.abs(numbers) <= EXACT_INTEGER_MAX)).all():
        return pa.array(numbers.astype(np.int64), mask=mask)
    # JSON's integers have no negative zero.
    numbers += 0.0
    return pa.array(numbers, mask=mask, from_pandas=False)


def _structs(contents: pa.BinaryArray, fields_max: int | None) -> pa.Array | None:
    try:
        columns = _columns(contents, None, fields_max)
    except TooManyFieldsError:
        return MIXED
    names = sorted(columns)
    if not names:
        return pa.array([{}] * len(contents))
    arrays = [columns[name] for name in names]
    if any(array is MIXED for array in arrays):
        return MIXED
    return pa.StructArray.from_arrays(arrays, names)


def _lists(contents: pa.BinaryArray, fields_max: int | None) -> pa.Array | None:
    lists = WireBytes(contents)
    numbers = lists.list_numbers()
    if numbers is not None:
        return _list_array(numbers[0], _numbers(numbers[1]))
    items = lists.list_items()
    if items is not None:
        counts, values = items
        array = _array(lists, values, fields_max)
        return MIXED if array is MIXED else _list_array(counts, array)
    plain = [from_list_value(ListValue.FromString(each)) for each in contents.to_pylist()]
    return infer(plain, fields_max)


def _list_array(counts: npt.NDArray[np.int64], values: pa.Array) -> pa.ListArray:
    offsets = np.concatenate(([0], np.cumsum(counts)))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def _spread(array: pa.Array, present: npt.NDArray[np.bool_]) -> pa.Array:
    """Return the entries where they are present, and nulls where they are not."""
    return array.take(pa.array(np.cumsum(present) - 1, mask=~present))


def _object(payload: bytes) -> dict[str, Any]:
    return from_struct(Struct.FromString(payload))
