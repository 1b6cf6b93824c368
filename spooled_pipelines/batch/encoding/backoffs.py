"""A column that says how long jobs wait before their retries."""

from __future__ import annotations

import math

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.encoding import protobuf_wire
from spooled_pipelines.batch.encoding.columns import EncodedColumn, from_array, map_distinct
from spooled_pipelines.retry_backoff import backoff_of

_WRONG = b"wrong"


def _encode(value: float | str) -> bytes:
    if isinstance(value, float) and math.isnan(value):
        # pandas' null among numbers.
        return protobuf_wire.bytes_field(protobuf_wire.CHUNK_RETRY_BACKOFF, b"")
    try:
        text = str(backoff_of(value))
    except ValueError:
        return _WRONG
    return protobuf_wire.bytes_field(protobuf_wire.CHUNK_RETRY_BACKOFF, text.encode())


def is_not_backoff(column: pa.Array) -> pa.BooleanArray:
    """Return true for each value that is neither null, nor a number of seconds, nor a backoff."""
    return pc.equal(map_distinct(column, _encode), _WRONG).fill_null(False)


def encode_backoffs(column: pa.Array) -> EncodedColumn:
    """Return the field of every row: null is an empty text, the upload's backoff."""
    empty = protobuf_wire.bytes_field(protobuf_wire.CHUNK_RETRY_BACKOFF, b"")
    return from_array(map_distinct(column, _encode).fill_null(empty))
