"""Payloads as the record batch that a handler of rows gets."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from spooled_pipelines.batch.decoding.exact_columns import exact_column
from spooled_pipelines.batch.decoding.payload_columns import (
    MIXED,
    PayloadColumns,
    decode_columns,
)
from spooled_pipelines.batch.values.exact_arrays import MisfitError, bool_as_number


def decode_rows(payloads: pa.BinaryArray, schema: pa.Schema | None = None) -> pa.RecordBatch:
    """Return serialized Structs as rows; with a schema, its columns of them.

    Without one, the columns are in the order of their names.

    Raises:
        MisfitError: a value would not arrive as it is.
        pyarrow.ArrowException, TypeError, ValueError, OverflowError: they do not go together.
        google.protobuf.message.DecodeError: one is malformed.
    """
    if schema is not None and len(schema):
        columns = decode_columns(payloads, only=schema.names)
        return pa.RecordBatch.from_arrays(
            [_exact(columns, field) for field in schema], schema=schema
        )
    columns = decode_columns(payloads)
    for name, array in columns.arrays.items():
        if array is MIXED:
            raise _misfit(name, columns.values(name))
    names = [] if schema is not None else sorted(columns.arrays)
    if not names:
        # Payloads without any field: rows all the same.
        return pa.record_batch([pa.nulls(len(payloads))], [""])
    return pa.record_batch([columns.arrays[name] for name in names], names)


def _misfit(name: str, values: list[Any]) -> MisfitError:
    """Return why values are of no type in common."""
    try:
        path = bool_as_number(values, pa.array(values).type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        path = None
    if path is None:
        return MisfitError(name, "holds values that have no type in common")
    return MisfitError(name + path, "holds true or false beside numbers")


def _exact(columns: PayloadColumns, field: pa.Field) -> pa.Array:
    try:
        return exact_column(columns, field.name, field.type)
    except MisfitError as error:
        raise MisfitError(f"{field.name}{error.path}", error.reason) from None
