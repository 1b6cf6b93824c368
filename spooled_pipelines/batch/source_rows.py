"""Tables that come row by row: iterables of dicts; and iterables of record batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import pyarrow as pa
from pyarrow import types

from spooled_pipelines.errors import InvalidArgumentError


def from_iterable(data: Iterable[Any], rows: int, accepted: str) -> tuple[Any, Iterator[Any]]:
    """The schema and record batches of an iterable; the first item says what it is."""
    # A sequence can be gone through twice, so its columns are those of all its rows.
    names = _all_names(data) if isinstance(data, Sequence) else None
    iterator = iter(data)
    first = next(iterator, None)
    if first is None:
        raise InvalidArgumentError("the data has no rows, so there is nothing to enqueue.")
    items = chain([first], iterator)
    if isinstance(first, pa.RecordBatch):
        return first.schema, _record_batches(items, first.schema)
    if isinstance(first, Mapping):
        return _dicts(items, names, rows)
    raise InvalidArgumentError(
        f"data is an iterable of {type(first).__name__}; it has to be {accepted}."
    )


def _record_batches(items: Iterable[Any], schema: Any) -> Iterator[Any]:
    for number, batch in enumerate(items):
        if not isinstance(batch, pa.RecordBatch) or not batch.schema.equals(schema):
            raise InvalidArgumentError(
                f"record batch {number} has other columns or types than the first one: "
                f"{_difference(batch, schema)}. Nothing was sent."
            )
        yield batch


def _difference(batch: Any, schema: Any) -> str:
    if not isinstance(batch, pa.RecordBatch):
        return f"it is of type {type(batch).__name__}"
    there = {field.name: str(field.type) for field in schema}
    here = {field.name: str(field.type) for field in batch.schema}
    for name in [*there, *here]:
        if there.get(name) != here.get(name):
            return f"{name!r} is {here.get(name, 'missing')}, not {there.get(name, 'there before')}"
    return "the columns are in another order, or a column may be null where it could not before"


def _dicts(
    items: Iterable[Mapping[str, Any]], names: dict[str, None] | None, rows: int
) -> tuple[Any, Iterator[Any]]:
    iterator = iter(items)
    head = list(islice(iterator, rows))
    names = _all_names(head) if names is None else names
    _refuse_other_names(names)
    first = _typed(head, names, 0)
    known = {name: first.schema.field(name).type for name in names}

    def batches() -> Iterator[Any]:
        yield first
        row = len(head)
        while chunk := list(islice(iterator, rows)):
            batch = _typed(chunk, names, row)
            for name, kind in known.items():
                known[name] = _same_kind(name, kind, batch.schema.field(name).type, row)
            yield batch
            row += len(chunk)

    return first.schema, batches()


def _all_names(items: Iterable[Any]) -> dict[str, None]:
    names: dict[str, None] = {}
    for item in items:
        if isinstance(item, Mapping):
            names.update(dict.fromkeys(item))
    return names


def _refuse_other_names(names: Iterable[Any]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise InvalidArgumentError(f"a row has the key {name!r}; the columns' names are texts.")


def _typed(chunk: list[Mapping[str, Any]], names: dict[str, None], row: int) -> Any:
    """A record batch of some dicts; a key that a row lacks is null."""
    for index, item in enumerate(chunk):
        if not isinstance(item, Mapping):
            raise InvalidArgumentError(
                f"row {row + index} is of type {type(item).__name__}, and those before are dicts. "
                "Nothing was sent."
            )
        if not item.keys() <= names.keys():
            new = sorted(str(name) for name in item.keys() - names.keys())
            raise InvalidArgumentError(
                f"row {row + index} has a key that no row before it has ({', '.join(new[:5])}). "
                "Give every row all keys (None where there is no value). Nothing was sent."
            )
    columns = []
    for name in names:
        values = [item.get(name) for item in chunk]
        try:
            columns.append(pa.array(values, from_pandas=False))
        except (pa.ArrowException, OverflowError, ValueError, TypeError) as error:
            said = " ".join(str(error).split())[:200]
            raise InvalidArgumentError(
                f"column {name!r}, rows {row} to {row + len(chunk) - 1}: the values have no common "
                f"type ({said}). Make them alike. Nothing was sent."
            ) from None
    return pa.RecordBatch.from_arrays(columns, names=list(names))


def _same_kind(name: str, before: Any, now: Any, row: int) -> Any:
    """The column's type from here on; a change that a payload would show is refused."""
    if now == before or types.is_null(now):
        return before
    if types.is_null(before):
        return now
    if _is_number(before) and _is_number(now):
        return before
    if types.is_nested(before) and types.is_nested(now) and before.id == now.id:
        # What is inside may have had no values to tell its type by; each row is sent as it is.
        return now
    raise InvalidArgumentError(
        f"column {name!r} is {before} up to row {row - 1}, and {now} behind it. Make the values "
        "alike, or pass a pyarrow Table with the types you want. Nothing was sent."
    )


def _is_number(kind: Any) -> bool:
    return bool(types.is_integer(kind) or types.is_floating(kind))
