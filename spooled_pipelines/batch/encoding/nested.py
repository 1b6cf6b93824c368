"""Lists, structs and maps as google.protobuf.Value, column-wise all the way down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spooled_pipelines.batch.encoding.columns import Cells, Head, of_array, side_by_side, tagged
from spooled_pipelines.batch.encoding.protobuf_wire import (
    FIRST,
    SECOND,
    VALUE_LIST,
    VALUE_NULL,
    VALUE_STRUCT,
    varint,
    with_length,
)
from spooled_pipelines.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spooled_pipelines.batch.encoding.values import Place

# Parsers of protobuf give up at 100 messages inside each other; those around the payload count.
_DEPTH_MAX = 96

ValueCells: TypeAlias = "Callable[[Any, Place], Cells]"


def cells(array: Any, place: Place, value_cells: ValueCells) -> Cells:
    """The Value of each list, struct or map; `value_cells` makes those of what is inside."""
    kind = array.type
    # A list is a ListValue and its Values; an object a Struct, its entries and their Values.
    place = replace(place, depth=place.depth + (3 if _is_object(kind) else 2))
    if place.depth > _DEPTH_MAX:
        raise InvalidArgumentError(
            f"column {place.path.rstrip('[]')!r} is nested too deeply: what is {place.depth} "
            f"messages deep on the wire cannot be read ({_DEPTH_MAX} can). Flatten it."
        )
    if _is_object(kind):
        bodies, head = object_bodies(array, place, value_cells), VALUE_STRUCT
    elif types.is_union(kind):
        raise InvalidArgumentError(
            f"column {place.path!r} is of type {kind}, which a payload cannot hold. "
            "Leave it out with payload=[...], or convert it before."
        )
    else:
        bodies, head = _lists(array, place, value_cells), VALUE_LIST
    return of_array(bodies).wrapped(tagged(head)).or_null(VALUE_NULL)


def object_bodies(array: Any, place: Place, value_cells: ValueCells) -> Any:
    """The fields of each struct or map as a Struct's own bytes; null where it is null."""
    made = _structs if types.is_struct(array.type) else _maps
    return made(array, place, value_cells)


def _is_object(kind: Any) -> bool:
    return bool(types.is_struct(kind) or types.is_map(kind))


def field(name: str, value: Cells) -> Cells:
    """One entry of Struct.fields, for each value."""
    return value.wrapped(_field_head(name))


@lru_cache(maxsize=1024)
def _field_head(name: str) -> Head:
    key = with_length(FIRST, name.encode())

    def head(size: int) -> bytes:
        value_head = SECOND + varint(size)
        return FIRST + varint(len(key) + len(value_head) + size) + key + value_head

    return head


def _structs(array: Any, place: Place, value_cells: ValueCells) -> Any:
    names = [array.type.field(i).name for i in range(array.type.num_fields)]
    if len(set(names)) != len(names):
        raise InvalidArgumentError(
            f"column {place.path!r} is a struct with two fields of one name ({array.type}); "
            "a payload has each name once. Rename one of them."
        )
    # flatten() gives a field's null wherever the struct itself is null: nothing hidden is read.
    columns = dict(zip(names, array.flatten(), strict=True))
    entries = [
        field(name, value_cells(columns[name], replace(place, path=f"{place.path}.{name}")))
        for name in sorted(names)
    ]
    bodies = side_by_side(entries, len(array)).joined(len(array))
    if not array.null_count:
        return bodies
    return pc.if_else(array.is_valid(), bodies, pa.scalar(None, pa.binary()))


def _lists(array: Any, place: Place, value_cells: ValueCells) -> Any:
    sizes = pc.list_value_length(array)
    inside = replace(place, path=f"{place.path}[]", row_of=_rows_inside(sizes, place))
    values = pc.list_flatten(array)
    items = value_cells(values, inside).settled(len(values))
    items = items.wrapped(tagged(FIRST))
    return _joined_by_list(items.joined(len(values)), sizes)


def _maps(array: Any, place: Place, value_cells: ValueCells) -> Any:
    if not types.is_string(array.type.key_type) and not types.is_large_string(array.type.key_type):
        raise InvalidArgumentError(
            f"column {place.path!r} is of type {array.type}: the names inside a payload are texts, "
            "and these are not. Cast the map's keys to string."
        )
    keys, values, sizes = _entries(array)
    row_of = _rows_inside(sizes, place)
    _refuse_doubled_keys(keys, sizes, place)
    inside = replace(place, path=f"{place.path}{{}}", row_of=row_of)
    key_cells = of_array(keys.cast(pa.binary())).wrapped(tagged(FIRST))
    item_cells = value_cells(values, inside).settled(len(keys))
    item_cells = item_cells.wrapped(tagged(SECOND))
    entries = side_by_side([key_cells, item_cells], len(keys))
    entries = entries.wrapped(tagged(FIRST))
    return _joined_by_list(entries.joined(len(keys)), sizes)


def _entries(array: Any) -> tuple[Any, Any, Any]:
    """The keys and the values of all maps, and how many each map has (null where it is null).

    By hand: Arrow's functions for lists take no maps, and its cast from one to the other reads
    beyond the end of some nested nulls.
    """
    offsets = array.offsets
    first, last = offsets[0].as_py(), offsets[len(offsets) - 1].as_py()
    keys, values = array.keys.slice(first, last - first), array.items.slice(first, last - first)
    sizes = pc.subtract(offsets.slice(1), offsets.slice(0, len(array)))
    if array.null_count:
        sizes = pc.if_else(array.is_valid(), sizes, pa.scalar(None, sizes.type))
        if (pc.sum(sizes).as_py() or 0) != last - first:
            # A null may stand before entries, which are nobody's.
            places = pa.ListArray.from_arrays(
                pc.subtract(offsets, offsets[0]),
                pa.array(range(last - first), pa.int64()),
                mask=array.is_null(),
            ).flatten()
            keys, values = keys.take(places), values.take(places)
    return keys, values, sizes


def _refuse_doubled_keys(keys: Any, sizes: Any, place: Place) -> None:
    texts = keys.to_pylist()
    start = 0
    for index, size in enumerate(sizes.fill_null(0).to_pylist()):
        if len(set(texts[start : start + size])) != size:
            place.refuse(index, "a map", "has one name twice, and a payload keeps only one of them")
        start += size


def _joined_by_list(pieces: Any, sizes: Any) -> Any:
    """The pieces of each list one behind the other; null where the list is."""
    ends = pc.cumulative_sum(sizes.fill_null(0).cast(pa.int32()))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    mask = pc.is_null(sizes) if sizes.null_count else None
    lists = pa.ListArray.from_arrays(offsets, pieces, mask=mask)
    return pc.binary_join(lists, b"")


def _rows_inside(sizes: Any, place: Place) -> Callable[[int], int]:
    def row_of(index: int) -> int:
        # Asked once, for an error: which list does the value at this index of all stand in?
        for outer, size in enumerate(sizes.fill_null(0).to_pylist()):
            if index < size:
                return place.row_of(outer)
            index -= size
        raise IndexError(index)

    return row_of
