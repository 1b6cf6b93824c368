"""Payloads that are one value already, or that a function makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pyarrow as pa
from pyarrow import types

from spooled_pipelines.batch.encoding.columns import EncodedColumn, from_array
from spooled_pipelines.batch.encoding.json_values import Json, encode_json_object, parse_or_invalid
from spooled_pipelines.batch.encoding.value_context import ValueContext
from spooled_pipelines.batch.encoding.values import encode_objects, encode_values
from spooled_pipelines.batch.options.row_options import PayloadFunction
from spooled_pipelines.batch.values.arrow_types import is_json, storage_array
from spooled_pipelines.batch.values.exact_json import has_decimals, unmark_decimals
from spooled_pipelines.errors import InvalidArgumentError


def is_not_object(column: pa.Array) -> pa.BooleanArray:
    """Return true for each row whose value is not an object."""
    if types.is_nested(column.type) or types.is_null(column.type):
        return column.is_null()
    texts = _json_texts(column)
    return pa.array([t is None or not isinstance(parse_or_invalid(t), dict) for t in texts])


def encode_payload_column(column: pa.Array, context: ValueContext) -> EncodedColumn:
    """Return the content of the payload's Struct for each value, all of which are objects."""
    if types.is_nested(column.type):
        return from_array(encode_objects(column, context))
    encoded = []
    for index, text in enumerate(_json_texts(column)):
        value = cast("dict[str, Json]", parse_or_invalid(text))
        encoded.append(encode_json_object(value, index, context))
    return from_array(pa.array(encoded, pa.binary()))


def _json_texts(column: pa.Array) -> list[Any]:
    storage = column.storage if isinstance(column.type, pa.BaseExtensionType) else column
    texts: list[Any] = storage.to_pylist()
    return texts


def call_payload_function(
    function: PayloadFunction, record_batch: pa.RecordBatch, first_row: int
) -> pa.RecordBatch:
    """Return what the function makes of a record batch: one with as many rows.

    Raises:
        InvalidArgumentError: the function returned something else.
    """
    returned: Any = function(_without_marks(record_batch))
    if isinstance(returned, pa.StructArray):
        returned = pa.RecordBatch.from_struct_array(returned)
    elif hasattr(returned, "__arrow_c_stream__") and not isinstance(returned, pa.RecordBatch):
        # A Table, or a DataFrame of any library.
        returned = _as_record_batch(pa.RecordBatchReader.from_stream(returned).read_all())
    if not isinstance(returned, pa.RecordBatch) or returned.num_rows != record_batch.num_rows:
        is_batch = isinstance(returned, pa.RecordBatch)
        what = f"{returned.num_rows} rows" if is_batch else type(returned).__name__
        raise InvalidArgumentError(
            f"the payload function must return a record batch of {record_batch.num_rows} rows, as "
            f"many as it was called with (from row {first_row} on), got {what}. Nothing was sent."
        )
    names = returned.schema.names
    if not names or len(set(names)) != len(names):
        raise InvalidArgumentError(
            "the payload function must return at least one column, and each name once, got "
            f"{names}. Nothing was sent."
        )
    return returned


def _without_marks(record_batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a record batch whose JSON is as anybody reads it."""
    for index, column in enumerate(record_batch.columns):
        if is_json(column.type) and has_decimals(column.storage):
            texts = unmark_decimals(column.storage)
            plain = pa.ExtensionArray.from_storage(column.type, texts)
            record_batch = record_batch.set_column(index, record_batch.schema.field(index), plain)
    return record_batch


def _as_record_batch(table: pa.Table) -> pa.RecordBatch:
    # Without the schema's metadata: what pandas notes there would make its index a column.
    columns = [storage_array(column) for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, names=table.schema.names)


def encode_returned_column(
    returned: pa.RecordBatch, name: str, context_of: Callable[[str], ValueContext]
) -> EncodedColumn:
    """Return the Values of one of the columns that the payload function returned."""
    context = replace(context_of(name), path=name)
    return encode_values(storage_array(returned.column(name)), context)
