"""The Arrow schema of a table's payloads, which goes with them so that they can be read back."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa
from pyarrow import types

from spooled_pipelines.batch.encoding.column_mapping import ColumnMapping
from spooled_pipelines.batch.values.arrow_types import any_type, is_list
from spooled_pipelines.wire.limits import SCHEMA_MAX_BYTES

_KEY = b"spooled.key"


def key_of(schema: pa.Schema) -> list[str]:
    """Return the fields that identify a row."""
    fields: list[str] = json.loads((schema.metadata or {}).get(_KEY, "[]"))
    return fields


def payload_schema(
    schema: pa.Schema, mapping: ColumnMapping, returned: pa.Schema | None
) -> pa.Schema:
    """Return the payload's fields and their types; none where the payloads are JSON already.

    `returned` is what the function gave that makes the payloads, if there is one.
    """
    if returned is not None:
        return returned
    if mapping.payload_column is None:
        # In the table's order, which the mapping does not keep.
        fields = sorted(mapping.fields, key=lambda pair: schema.get_field_index(pair[1]))
        return pa.schema([(name, schema.field(column).type) for name, column in fields])
    kind = schema.field(mapping.payload_column).type
    inner = map(kind.field, range(kind.num_fields)) if types.is_struct(kind) else ()
    return pa.schema([(field.name, field.type) for field in inner])


class PayloadTypes:
    """The types of the payloads of one upload, record batch by record batch."""

    def __init__(self) -> None:
        self._types: dict[str, pa.DataType] = {}
        self._last: pa.Schema | None = None

    def add(self, schema: pa.Schema) -> None:
        """Note what the payloads of one more record batch are."""
        if self._last is not None and schema.equals(self._last):
            return
        self._last = schema
        for field in schema:
            kind = plain_type(field.type)
            if types.is_nested(kind) and any_type(kind, _is_extension):
                # Arrow makes no such arrays of Python's values.
                kind = pa.json_()
            known = self._types.get(field.name, pa.null())
            if types.is_null(known):
                self._types[field.name] = kind
            elif kind != known and not types.is_null(kind):
                # Values of several types are read as JSON has them.
                self._types[field.name] = pa.json_()

    def serialized(self, key: Sequence[str]) -> tuple[bytes, str | None]:
        """Return the schema as an IPC message, empty where none can be kept; and why, in words.

        `key`: the fields that identify a row.
        """
        data = b""
        if self._types:
            schema = pa.schema(list(self._types.items()), {_KEY: json.dumps(key)} if key else None)
            data = schema.serialize().to_pybytes()
        if len(data) <= SCHEMA_MAX_BYTES:
            return data, None
        note = (
            f"the columns' types are not kept: the schema has {len(data)} bytes, and at most "
            f"{SCHEMA_MAX_BYTES} are kept"
        )
        return b"", note


def _is_extension(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.BaseExtensionType)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values, however they are stored."""
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if types.is_struct(kind):
        fields = map(kind.field, range(kind.num_fields))
        return pa.struct([(field.name, plain_type(field.type)) for field in fields])
    if types.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type), kind.list_size)
    if types.is_map(kind):
        return pa.map_(pa.string(), plain_type(kind.item_type))
    if is_list(kind):
        return pa.list_(plain_type(kind.value_type))
    return kind
