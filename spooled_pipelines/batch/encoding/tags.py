"""Tags that each row brings."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spooled_pipelines.batch.encoding.columns import (
    EncodedColumn,
    concat,
    from_array,
    length_delimited,
)
from spooled_pipelines.batch.encoding.protobuf_wire import FIELD_1, FIELD_2, bytes_field, varint
from spooled_pipelines.batch.values.arrow_types import is_text, storage_array
from spooled_pipelines.wire.limits import TAGS_MAX_BYTES

TOO_LARGE = f"its tags are more than {TAGS_MAX_BYTES} bytes"


def can_be_tags(arrow_type: pa.DataType) -> bool:
    """Return whether each value of a column of this type is tags: a struct or map of texts."""
    if types.is_map(arrow_type):
        return is_text(arrow_type.key_type) and is_text(arrow_type.item_type)
    return types.is_struct(arrow_type) and all(is_text(field.type) for field in arrow_type)


def encode_tags(columns: dict[str, pa.Array], rows: int) -> EncodedColumn:
    """Return a Tags message of each row, from columns of texts; a null makes no tag."""
    entries = [_encode_entry(name, columns[name]) for name in sorted(columns)]
    return from_array(concat(entries, rows).to_array(rows))


def tag_columns(column: pa.Array) -> dict[str, pa.Array]:
    """Return the columns of texts in a column of structs or maps."""
    arrow_type = column.type
    if types.is_struct(arrow_type):
        names = [arrow_type.field(index).name for index in range(arrow_type.num_fields)]
        return dict(zip(names, column.flatten(), strict=True))
    rows = [dict(entries or ()) for entries in column.to_pylist()]
    names = sorted({name for row in rows for name in row})
    return {name: pa.array([row.get(name) for row in rows], pa.string()) for name in names}


def too_large(tags: EncodedColumn, rows: int) -> list[int]:
    """Return the rows whose tags are above the limit."""
    if isinstance(tags.size, int):
        return list(range(rows)) if tags.size > TAGS_MAX_BYTES else []
    indices: list[int] = pc.indices_nonzero(pc.greater(tags.size, TAGS_MAX_BYTES)).to_pylist()
    return indices


def _encode_entry(name: str, column: pa.Array) -> EncodedColumn:
    key = bytes_field(FIELD_1, name.encode())
    texts = storage_array(column).cast(pa.string()).cast(pa.binary())
    value = from_array(texts).with_length_prefix(length_delimited(FIELD_2))
    entry = value.with_length_prefix(lambda size: FIELD_1 + varint(len(key) + size) + key)
    return entry.fill_null(b"")
