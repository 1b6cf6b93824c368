"""Columns of the keys by which rows take turns, as wire bytes."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spooled_pipelines.batch.encoding import protobuf_wire
from spooled_pipelines.batch.encoding.columns import EncodedColumn, from_array, map_distinct
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.wire.limits import COLUMN_KEY_MAX


def check_key_column(arrow_type: pa.DataType, option: str) -> None:
    """Raise InvalidArgumentError where values of the type are not keys."""
    if types.is_nested(arrow_type) or types.is_binary(arrow_type):
        raise InvalidArgumentError(
            f"{option} must be a column of texts, numbers or times, got one of type {arrow_type}."
        )


def too_long(column: pa.Array) -> pa.BooleanArray:
    """Return true for each value whose text is too long for a key."""
    lengths = map_distinct(column, lambda value: b"x" * (len(_text(value)) > COLUMN_KEY_MAX))
    return pc.equal(lengths, b"x").fill_null(False)


def encode_keys(column: pa.Array, field_tag: bytes) -> EncodedColumn:
    """Return the field of every row: null is an empty text, no key."""
    keys = map_distinct(
        column, lambda value: protobuf_wire.bytes_field(field_tag, _text(value).encode())
    )
    return from_array(keys.fill_null(protobuf_wire.bytes_field(field_tag, b"")))


def _text(value: Any) -> str:
    """Return a value's text; a whole number's is the same in a column of floats, as in pandas."""
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value)
