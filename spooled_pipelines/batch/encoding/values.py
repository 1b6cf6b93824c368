"""Arrow values as google.protobuf.Value, exactly, or not at all; column-wise all the way down.

A payload's number is a double, its text is UTF-8, and it knows no bytes and no times. A value that
does not fit is a LossyValueError, or, with `on_lossy="string"`, the text that says it exactly, with
"null", null, and with "round", if it is a finite number, the nearest double.

The bytes are made here and not by `Struct.SerializeToString(deterministic=True)`: a row's
idempotency key is a hash of them, and protobuf does not promise the same bytes in its next version.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spooled_pipelines.batch.encoding.columns import (
    EncodedColumn,
    Prefix,
    concat,
    from_array,
    length_delimited,
)
from spooled_pipelines.batch.encoding.json_values import encode_json
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
    varint,
)
from spooled_pipelines.batch.encoding.value_context import ValueContext
from spooled_pipelines.batch.values.arrow_types import (
    is_json,
    storage_array,
    to_text,
    unsupported_type,
)
from spooled_pipelines.batch.values.iso8601 import PER_SECOND
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.wire.limits import EXACT_INTEGER_MAX, MESSAGE_DEPTH_MAX

_Objects: TypeAlias = "pa.StructArray | pa.MapArray"
_Lists: TypeAlias = "pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray"


def encode_values(array: pa.Array, context: ValueContext) -> EncodedColumn:
    """Return the Value message of each entry; nulls are null_value.

    Raises:
        LossyValueError: a value does not fit, and `context.on_lossy` is "raise".
        InvalidArgumentError: no payload can hold this type.
    """
    array = storage_array(array)
    arrow_type = array.type
    if is_json(arrow_type):
        return from_array(encode_json(array.storage, context)).fill_null(VALUE_NULL)
    if types.is_null(arrow_type):
        return EncodedColumn((VALUE_NULL,), len(VALUE_NULL))
    if types.is_boolean(arrow_type):
        encoded = pc.if_else(array, pa.scalar(VALUE_TRUE), pa.scalar(VALUE_FALSE))
        return EncodedColumn((encoded,), len(VALUE_TRUE), VALUE_NULL)
    if types.is_integer(arrow_type):
        return _encode_integers(array, context)
    if types.is_floating(arrow_type):
        doubles = array.cast(pa.float64())
        return _encode_floats(pc.add(doubles, 0.0) if context.unsigned_zeros else doubles, context)
    if types.is_nested(arrow_type):
        return _encode_nested(array, context)
    if (
        types.is_binary(arrow_type)
        or types.is_large_binary(arrow_type)
        or types.is_fixed_size_binary(arrow_type)
    ):
        return _encode_bytes(array, context)
    if types.is_temporal(arrow_type):
        return _encode_times(array, context)
    return _encode_text(to_text(array, context.path, trims=context.trims_decimals))


def encode_objects(array: _Objects, context: ValueContext) -> pa.BinaryArray:
    """Return the content of the Struct of each struct or map; null where it is null."""
    if types.is_struct(array.type):
        return _encode_structs(array, context)
    return _encode_maps(array, context)


def struct_field(name: str, values: EncodedColumn) -> EncodedColumn:
    """Return one entry of Struct.fields for each Value."""
    return values.with_length_prefix(_field_prefix(name))


@lru_cache(maxsize=1024)
def _field_prefix(name: str) -> Prefix:
    key = bytes_field(FIELD_1, name.encode())

    def prefix(size: int) -> bytes:
        value_prefix = FIELD_2 + varint(size)
        return FIELD_1 + varint(len(key) + len(value_prefix) + size) + key + value_prefix

    return prefix


def _encode_integers(array: pa.Array, context: ValueContext) -> EncodedColumn:
    inexact = None
    if array.type.bit_width == 64:
        bounds = pc.min_max(array)
        low, high = bounds["min"].as_py(), bounds["max"].as_py()
        if low is not None and (low < -EXACT_INTEGER_MAX or high > EXACT_INTEGER_MAX):
            inexact = pc.greater(array, pa.scalar(EXACT_INTEGER_MAX, array.type))
            if low < 0:
                below = pc.less(array, pa.scalar(-EXACT_INTEGER_MAX, array.type))
                inexact = pc.or_(inexact, below)
    if inexact is not None and context.on_lossy == "raise":
        index = pc.index(inexact, True).as_py()
        why = "is beyond ±2**53, where a payload's number (a double) is not exact"
        context.raise_lossy(index, str(array[index].as_py()), why, rounds=True)
    numbers = _encode_doubles(array.cast(pa.float64(), safe=False))
    if inexact is not None and context.on_lossy == "round":
        context.rounded[context.path] += pc.sum(inexact).as_py() or 0
        return numbers
    if inexact is None:
        return numbers
    return _replace_lossy(numbers, inexact, array.cast(pa.string()), context)


def _encode_floats(array: pa.DoubleArray, context: ValueContext) -> EncodedColumn:
    # NaN is how pandas says null, and JSON has neither NaN nor infinity.
    missing = pc.is_nan(array)
    if pc.any(missing).as_py():
        array = pc.if_else(missing, pa.scalar(None, pa.float64()), array)
    infinite = pc.is_inf(array)
    if not pc.any(infinite).as_py():
        return _encode_doubles(array)
    texts = pc.if_else(pc.greater(array, 0.0), "Infinity", "-Infinity")
    if context.refuses:
        index = pc.index(infinite, True).as_py()
        context.raise_lossy(index, texts[index].as_py(), "is not a number that a payload can hold")
    return _replace_lossy(_encode_doubles(array), infinite, texts, context)


def _encode_doubles(doubles: pa.DoubleArray) -> EncodedColumn:
    # A double on the wire is its eight bytes, little endian, as they are in Arrow's buffer.
    fragments = (VALUE_NUMBER, doubles.view(pa.binary(8)).cast(pa.binary()))
    return EncodedColumn(fragments, len(VALUE_NUMBER) + 8, VALUE_NULL)


def _encode_text(array: pa.StringArray) -> EncodedColumn:
    column = from_array(array.cast(pa.binary()))
    return column.with_length_prefix(length_delimited(VALUE_STRING)).fill_null(VALUE_NULL)


def _encode_bytes(array: pa.BinaryArray, context: ValueContext) -> EncodedColumn:
    if array.null_count == len(array) or context.on_lossy == "null":
        return EncodedColumn((VALUE_NULL,), len(VALUE_NULL))
    if context.refuses:
        index = pc.index(array.is_valid(), True).as_py()
        size = len(array[index].as_py())
        context.raise_lossy(index, f"{size} bytes", "are binary, which a payload cannot hold")
    texts = [None if v is None else base64.b64encode(v).decode() for v in array.to_pylist()]
    return _encode_text(pa.array(texts, pa.string()))


# Thirty thousand years.
_DAYS_MAX = 30_000 * 365


def _encode_times(array: pa.Array, context: ValueContext) -> EncodedColumn:
    texts = to_text(array, context.path)
    if _has_dates(array):
        return _encode_text(texts)
    # Arrow says in words that it has no date for a value.
    without_date = pc.starts_with(texts, "<")
    if not pc.any(without_date).as_py():
        return _encode_text(texts)
    counts = array.cast(pa.int32()) if types.is_date32(array.type) else array
    unit = getattr(array.type, "unit", "D" if types.is_date32(array.type) else "ms")
    exact = pc.binary_join_element_wise(counts.cast(pa.int64()).cast(pa.string()), unit, " ")
    if context.refuses:
        index = pc.index(without_date, True).as_py()
        context.raise_lossy(index, exact[index].as_py(), "is a time that has no date")
    return _replace_lossy(_encode_text(texts), without_date, exact, context)


def _has_dates(array: pa.Array) -> bool:
    """Return whether all values are surely within the years that Arrow can print."""
    arrow_type = array.type
    if types.is_date32(arrow_type):
        per_day = 1
    elif types.is_date64(arrow_type):
        per_day = 86_400_000
    elif types.is_timestamp(arrow_type):
        per_day = 86_400 * PER_SECOND[arrow_type.unit]
    else:
        return True
    bounds = pc.min_max(array.view(pa.int32() if types.is_date32(arrow_type) else pa.int64()))
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    return low is None or (low > -_DAYS_MAX * per_day and high < _DAYS_MAX * per_day)


def _replace_lossy(
    column: EncodedColumn, lossy: pa.BooleanArray, texts: pa.StringArray, context: ValueContext
) -> EncodedColumn:
    """Return the texts, or nulls, where `lossy` is true, else the column."""
    rows = len(lossy)
    if context.on_lossy == "null":
        texts = pa.nulls(rows, pa.string())
    replacements = _encode_text(texts).to_array(rows)
    return from_array(pc.if_else(lossy.fill_null(False), replacements, column.to_array(rows)))


def _encode_nested(array: pa.Array, context: ValueContext) -> EncodedColumn:
    arrow_type = array.type
    is_object = types.is_struct(arrow_type) or types.is_map(arrow_type)
    # A list is a ListValue and its Values; an object a Struct, its entries and their Values.
    context = replace(context, depth=context.depth + (3 if is_object else 2))
    if context.depth > MESSAGE_DEPTH_MAX:
        raise InvalidArgumentError(
            f"column {context.path.rstrip('[]')!r} is nested too deeply: a payload can be "
            f"{MESSAGE_DEPTH_MAX} messages deep on the wire, and this is {context.depth}. "
            "Flatten it."
        )
    if is_object:
        contents, field_tag = encode_objects(array, context), VALUE_STRUCT
    elif types.is_union(arrow_type):
        raise unsupported_type(context.path, arrow_type)
    else:
        contents, field_tag = _encode_lists(array, context), VALUE_LIST
    column = from_array(contents).with_length_prefix(length_delimited(field_tag))
    return column.fill_null(VALUE_NULL)


def _encode_structs(array: pa.StructArray, context: ValueContext) -> pa.BinaryArray:
    names = [array.type.field(i).name for i in range(array.type.num_fields)]
    if len(set(names)) != len(names):
        raise InvalidArgumentError(
            f"column {context.path!r} is a struct with two fields of one name ({array.type}); "
            "a payload has each name once. Rename one of them."
        )
    # flatten() gives a field's null wherever the struct itself is null: nothing hidden is read.
    columns = dict(zip(names, array.flatten(), strict=True))
    entries = []
    for name in sorted(names):
        inside = replace(context, path=f"{context.path}.{name}")
        entries.append(struct_field(name, encode_values(columns[name], inside)))
    contents = concat(entries, len(array)).to_array(len(array))
    if not array.null_count:
        return contents
    return pc.if_else(array.is_valid(), contents, pa.scalar(None, pa.binary()))


def _encode_lists(array: _Lists, context: ValueContext) -> pa.BinaryArray:
    sizes = pc.list_value_length(array)
    inside = replace(context, path=f"{context.path}[]", row_of=_rows_inside(sizes, context))
    values = pc.list_flatten(array)
    items = encode_values(values, inside).without_nulls(len(values))
    items = items.with_length_prefix(length_delimited(FIELD_1))
    return _join_by_list(items.to_array(len(values)), sizes)


def _encode_maps(array: pa.MapArray, context: ValueContext) -> pa.BinaryArray:
    key_type = array.type.key_type
    if not types.is_string(key_type) and not types.is_large_string(key_type):
        raise InvalidArgumentError(
            f"column {context.path!r} is of type {array.type}: the names inside a payload are "
            "texts, and these are not. Cast the map's keys to string."
        )
    keys, values, sizes = _map_entries(array)
    _refuse_duplicate_keys(keys, sizes, context)
    inside = replace(context, path=f"{context.path}{{}}", row_of=_rows_inside(sizes, context))
    names = from_array(keys.cast(pa.binary())).with_length_prefix(length_delimited(FIELD_1))
    items = encode_values(values, inside).without_nulls(len(keys))
    items = items.with_length_prefix(length_delimited(FIELD_2))
    entries = concat([names, items], len(keys)).with_length_prefix(length_delimited(FIELD_1))
    return _join_by_list(entries.to_array(len(keys)), sizes)


def _map_entries(array: pa.MapArray) -> tuple[pa.Array, pa.Array, pa.Int32Array]:
    """Return the keys and values of all maps, and the size of each map (null where it is null).

    By hand: Arrow's functions for lists take no maps, and its cast from one to the other reads
    beyond the end of some nested nulls.
    """
    offsets = array.offsets
    first, last = offsets[0].as_py(), offsets[len(offsets) - 1].as_py()
    keys, values = array.keys.slice(first, last - first), array.items.slice(first, last - first)
    sizes = pc.subtract(offsets.slice(1), offsets.slice(0, len(array)))
    if array.null_count:
        sizes = pc.if_else(array.is_valid(), sizes, pa.scalar(None, sizes.type))
        if (pc.sum(sizes).as_py() or 0) != last - first:
            # A null may stand before entries, which belong to no map.
            indices = pa.ListArray.from_arrays(
                pc.subtract(offsets, offsets[0]),
                pa.array(range(last - first), pa.int64()),
                mask=array.is_null(),
            ).flatten()
            keys, values = keys.take(indices), values.take(indices)
    return keys, values, sizes


def _refuse_duplicate_keys(keys: pa.Array, sizes: pa.Int32Array, context: ValueContext) -> None:
    names = keys.to_pylist()
    start = 0
    for index, size in enumerate(sizes.fill_null(0).to_pylist()):
        if len(set(names[start : start + size])) != size:
            why = "has one name twice, and a payload keeps only one of them"
            context.raise_lossy(index, "a map", why)
        start += size


def _join_by_list(items: pa.BinaryArray, sizes: pa.Int32Array) -> pa.BinaryArray:
    """Join the items of each list; null where the list is null."""
    ends = pc.cumulative_sum(sizes.fill_null(0).cast(pa.int32()))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    mask = pc.is_null(sizes) if sizes.null_count else None
    return pc.binary_join(pa.ListArray.from_arrays(offsets, items, mask=mask), b"")


def _rows_inside(sizes: pa.Int32Array, context: ValueContext) -> Callable[[int], int]:
    def row_of(index: int) -> int:
        # Called once, for an error: which list does the value at this index of all stand in?
        for outer, size in enumerate(sizes.fill_null(0).to_pylist()):
            if index < size:
                return context.row_of(outer)
            index -= size
        raise IndexError(index)

    return row_of
