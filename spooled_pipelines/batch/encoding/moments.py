"""Columns of times as fields of a job."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spooled_pipelines.batch.encoding import protobuf_wire
from spooled_pipelines.batch.encoding.columns import EncodedColumn, from_array, map_distinct
from spooled_pipelines.batch.values.iso8601 import PER_SECOND

# The years 1 to 9999, which is what a Timestamp may say.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799


def out_of_years(column: pa.Array) -> pa.BooleanArray:
    """Return true for each time that a Timestamp cannot say."""
    if types.is_null(column.type):
        return pa.repeat(pa.scalar(False), len(column))
    seconds = column.cast(pa.timestamp("s", column.type.tz), safe=False).cast(pa.int64())
    early = pc.less(seconds, _FIRST_SECOND)
    return pc.or_(early, pc.greater(seconds, _LAST_SECOND)).fill_null(False)


def encode_moments(column: pa.Array, field_tag: bytes) -> EncodedColumn:
    """Return the field of every row: null is an empty Timestamp, which says nothing."""
    if types.is_null(column.type):
        column = column.cast(pa.timestamp("s", "UTC"))
    factor = 1_000_000_000 // PER_SECOND[column.type.unit]

    def moment(count: int) -> bytes:
        return protobuf_wire.bytes_field(field_tag, protobuf_wire.timestamp(count * factor))

    encoded = map_distinct(column.cast(pa.int64()), moment)
    return from_array(encoded.fill_null(protobuf_wire.bytes_field(field_tag, b"")))
