"""Payloads as the record batch that a handler of rows gets."""

from __future__ import annotations

from functools import partial
from typing import Any

import pyarrow as pa
from pyarrow import types

from spooled_pipelines.batch.decoding.exact_columns import exact_column
from spooled_pipelines.batch.decoding.payload_columns import MIXED, PayloadColumns, decode_columns
from spooled_pipelines.batch.values.exact_arrays import MisfitError, bool_as_number
from spooled_pipelines.batch.values.table_arrays import table_array


def decode_rows(
    payloads: pa.BinaryArray, schema: pa.Schema | None = None, table: pa.Schema | None = None
) -> pa.RecordBatch:
    """Return serialized Structs as rows; with a schema, its columns of them.

    Without one, the columns are those of the table that the payloads came from, with its types; of
    an unknown table, they have the types of JSON and are in the order of their names.

    Raises:
        MisfitError: a value would not arrive as it is.
        pyarrow.ArrowException, TypeError, ValueError, OverflowError: they do not go together.
        google.protobuf.message.DecodeError: one is malformed.
    """
    if schema is not None and len(schema):
        columns = decode_columns(payloads, only=schema.names)
        return pa.RecordBatch.from_arrays(
            [_typed(columns, field, table) for field in schema], schema=schema
        )
    columns = decode_columns(payloads)
    typed = {} if schema is not None else _of_table(columns, table)
    for name in [] if schema is not None else sorted(columns.arrays.keys() - typed):
        array = columns.arrays[name]
        if array is MIXED:
            raise _misfit(name, columns.values(name))
        typed[name] = array
    if not typed:
        # Payloads without any field: rows all the same.
        return pa.record_batch([pa.nulls(len(payloads))], [""])
    return pa.record_batch(list(typed.values()), list(typed))


def _of_table(columns: PayloadColumns, table: pa.Schema | None) -> dict[str, pa.Array]:
    """Return the columns of the table, in its order; a field of nulls alone is left out."""
    kept = [field for field in table or () if not types.is_null(field.type)]
    return {field.name: _of_field(columns, field) for field in kept}


def _of_field(columns: PayloadColumns, field: pa.Field) -> pa.Array:
    if field.name not in columns.arrays:
        return pa.nulls(len(columns.payloads), field.type)
    values = partial(columns.values, field.name)
    try:
        return table_array(columns.arrays[field.name], values, field.type)
    except MisfitError as error:
        raise MisfitError(field.name, error.reason) from None


def _misfit(name: str, values: list[Any]) -> MisfitError:
    """Return why values are of no type in common."""
    try:
        path = bool_as_number(values, pa.array(values).type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        path = None
    if path is None:
        return MisfitError(name, "holds values that have no type in common")
    return MisfitError(name + path, "holds true or false beside numbers")


def _typed(columns: PayloadColumns, field: pa.Field, table: pa.Schema | None) -> pa.Array:
    was = table.field(field.name).type if table is not None and field.name in table.names else None
    if was is not None and field.type == was:
        return _of_field(columns, field)
    try:
        return _of_json(columns, field)
    except MisfitError:
        if was is None:
            raise
        try:
            # Bytes and durations, which JSON writes as texts.
            array = _of_field(columns, field.with_type(was))
            cast = array.cast(field.type)
            # Of a timestamp Arrow's cast to a date leaves out the time.
            if cast.cast(was).equals(array):
                return cast
        except (pa.ArrowException, MisfitError):
            pass
        raise


def _of_json(columns: PayloadColumns, field: pa.Field) -> pa.Array:
    try:
        return exact_column(columns, field.name, field.type)
    except MisfitError as error:
        raise MisfitError(f"{field.name}{error.path}", error.reason) from None
