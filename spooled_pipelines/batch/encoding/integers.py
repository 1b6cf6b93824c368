"""Columns of whole numbers as fields of a job."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spooled_pipelines.batch.encoding import protobuf_wire
from spooled_pipelines.batch.encoding.column_mapping import IntegerColumn
from spooled_pipelines.batch.encoding.columns import EncodedColumn, from_array, map_distinct
from spooled_pipelines.wire.limits import NO_RETRIES

_FIELD_TAGS = {
    "priority": protobuf_wire.PRIORITY,
    "max_retries": protobuf_wire.MAX_RETRIES,
    "timeout_seconds": protobuf_wire.TIMEOUT_SECONDS,
}


def out_of_range(column: pa.Array, integer: IntegerColumn) -> pa.BooleanArray:
    """Return true for each number that is not whole, or not within its bounds."""
    if types.is_null(column.type):
        return pa.repeat(pa.scalar(False), len(column))
    if types.is_uint64(column.type):
        # Arrow compares them with signed ones, and has no room for the largest.
        largest = pa.scalar(2**62, pa.uint64())
        column = pc.min_element_wise(column, largest, skip_nulls=False).cast(pa.int64())
    outside = pc.or_(pc.less(column, integer.low), pc.greater(column, integer.high))
    if types.is_floating(column.type):
        # NaN is null here too, and null means the default.
        fractional = pc.and_not(pc.not_equal(pc.floor(column), column), pc.is_nan(column))
        outside = pc.or_(outside, fractional)
    return outside.fill_null(False)


def encode_integers(column: pa.Array, integer: IntegerColumn) -> EncodedColumn:
    """Return the field of every row: null is 0, the default, since a chunk's lists have no gaps.

    No retries are -1, as the batch extension says them.
    """
    if types.is_null(column.type):
        column = column.cast(pa.int64())
    elif types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    field_tag = _FIELD_TAGS[integer.name]
    integers = column.cast(pa.int64())
    if integer.name == "max_retries":
        integers = pc.if_else(pc.equal(integers, 0), NO_RETRIES, integers)
    integers = integers.fill_null(0)
    return from_array(map_distinct(integers, lambda value: field_tag + protobuf_wire.varint(value)))
