"""Tags that each row brings."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spooled_pipelines.batch.encoding.columns import Cells, of_array, side_by_side, tagged
from spooled_pipelines.batch.encoding.protobuf_wire import FIRST, SECOND, varint, with_length
from spooled_pipelines.batch.encoding.values import plain
from spooled_pipelines.wire.limits import TAGS_MAX_BYTES

TOO_LARGE = f"its tags are more than {TAGS_MAX_BYTES} bytes"


def can_be_tags(kind: Any) -> bool:
    """Whether each value of a column of this type is tags: a struct or map of texts."""
    if types.is_map(kind):
        return is_text(kind.key_type) and is_text(kind.item_type)
    return types.is_struct(kind) and all(is_text(field.type) for field in kind)


def is_text(kind: Any) -> bool:
    """Whether a column's values are texts."""
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_null(kind)
    )


def tag_cells(columns: dict[str, Any], rows: int) -> Cells:
    """A Tags message of each row, from columns of texts; a null is no tag."""
    entries = [_entry(name, columns[name]) for name in sorted(columns)]
    return of_array(side_by_side(entries, rows).joined(rows))


def tag_columns(column: Any) -> dict[str, Any]:
    """The columns of texts in a column of structs or maps."""
    kind = column.type
    if types.is_struct(kind):
        names = [kind.field(place).name for place in range(kind.num_fields)]
        return dict(zip(names, column.flatten(), strict=True))
    rows = [dict(entries or ()) for entries in column.to_pylist()]
    names = sorted({name for row in rows for name in row})
    return {name: pa.array([row.get(name) for row in rows], pa.string()) for name in names}


def too_large(cells: Cells, rows: int) -> list[int]:
    """The rows whose tags are above the limit."""
    if isinstance(cells.size, int):
        return list(range(rows)) if cells.size > TAGS_MAX_BYTES else []
    found: list[int] = pc.indices_nonzero(pc.greater(cells.size, TAGS_MAX_BYTES)).to_pylist()
    return found


def _entry(name: str, column: Any) -> Cells:
    key = with_length(FIRST, name.encode())
    texts = plain(column).cast(pa.string()).cast(pa.binary())
    value = of_array(texts).wrapped(tagged(SECOND))
    return value.wrapped(lambda size: FIRST + varint(len(key) + size) + key).or_null(b"")
