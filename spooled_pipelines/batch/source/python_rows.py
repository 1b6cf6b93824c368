"""Tables that come row by row: dicts, dataclasses, models; and iterables of record batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import pyarrow as pa
from pyarrow import types

from spooled_pipelines.batch.source.python_values import column_of
from spooled_pipelines.batch.source.type_compat import is_json, same_kind
from spooled_pipelines.errors import EmptyTableError, InvalidArgumentError


def from_iterable(data: Iterable[Any], rows: int, accepted: str) -> tuple[Any, Iterator[Any]]:
    """The schema and record batches of an iterable; the first item says what it is."""
    iterator = iter(data)
    first = next(iterator, None)
    if first is None:
        raise EmptyTableError("the data has no rows, so there is nothing to enqueue.")
    items = chain([first], iterator)
    if isinstance(first, pa.RecordBatch):
        return first.schema, _record_batches(items, first.schema)
    as_dict = _reader(first)
    if as_dict is None:
        raise InvalidArgumentError(
            f"data is an iterable of {type(first).__name__}; it has to be {accepted}."
        )
    names = None
    if isinstance(first, Mapping) and isinstance(data, Sequence):
        # A sequence can be gone through twice, so its columns are those of all its rows.
        names = _all_names(data)
    return _dicts(map(as_dict, items), names, rows)


def _reader(first: Any) -> Callable[[Any], Any] | None:
    """What makes a dict of each row that is like the first one; None: nothing does."""
    kind = type(first)
    if isinstance(first, Mapping):
        return _same
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        return lambda row: dataclasses.asdict(row) if isinstance(row, kind) else row
    if callable(getattr(kind, "model_dump", None)):
        return lambda row: row.model_dump() if isinstance(row, kind) else row
    if isinstance(first, tuple) and hasattr(kind, "_fields"):
        return lambda row: row._asdict() if isinstance(row, kind) else row
    return None


def _same(row: Any) -> Any:
    return row


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

    def chunks() -> Iterator[list[list[Any]]]:
        chunk = head
        row = 0
        while chunk:
            _refuse_unlike(chunk, names, row)
            yield [[item.get(name) for item in chunk] for name in names]
            row += len(chunk)
            chunk = list(islice(iterator, rows))

    return from_chunks(list(names), chunks())


def from_chunks(names: list[str], chunks: Iterator[list[Any]]) -> tuple[Any, Iterator[Any]]:
    """The schema and the record batches of chunks of columns; a column is a list of Python values
    or an Arrow array. A chunk has rows; without any chunk there are no batches, and no types."""
    first = next(chunks, None)
    if first is None:
        return pa.schema([(name, pa.null()) for name in names]), iter(())
    head = _typed(first, names, 0)
    known = [field.type for field in head.schema]

    def batches() -> Iterator[Any]:
        yield head
        row = head.num_rows
        for chunk in chunks:
            batch = _typed(chunk, names, row)
            for place, name in enumerate(names):
                known[place] = _same_kind(name, known[place], batch.schema.field(place).type, row)
            yield batch
            row += batch.num_rows

    return head.schema, batches()


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


def _refuse_unlike(chunk: list[Any], names: dict[str, None], row: int) -> None:
    for index, item in enumerate(chunk):
        if not isinstance(item, Mapping):
            raise InvalidArgumentError(
                f"row {row + index} is of type {type(item).__name__}, and those before are not. "
                "Nothing was sent."
            )
        if not item.keys() <= names.keys():
            new = sorted(str(name) for name in item.keys() - names.keys())
            raise InvalidArgumentError(
                f"row {row + index} has a key that no row before it has ({', '.join(new[:5])}). "
                "Give every row all keys (None where there is no value). Nothing was sent."
            )


def _typed(chunk: list[Any], names: list[str], row: int) -> Any:
    """A record batch of columns of values."""
    columns = [
        _column(name, values, row) if isinstance(values, list) else values
        for name, values in zip(names, chunk, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=names)


def _column(name: str, values: list[Any], row: int) -> Any:
    try:
        return column_of(values)
    except (pa.ArrowException, OverflowError, ValueError, TypeError) as error:
        said = " ".join(str(error).split())[:200]
        raise InvalidArgumentError(
            f"column {name!r}, rows {row} to {row + len(values) - 1}: the values have no common "
            f"type ({said}). Make them alike. Nothing was sent."
        ) from None


def _same_kind(name: str, before: Any, now: Any, row: int) -> Any:
    """The column's type from here on; a change that a payload would show is refused."""
    if now == before or types.is_null(now):
        return before
    if types.is_null(before):
        return now
    if _as_they_are(before) and _as_they_are(now):
        # Objects and lists: each row is sent as it is.
        return now
    if same_kind(before, now):
        return before
    raise InvalidArgumentError(
        f"column {name!r} is {before} up to row {row - 1}, and {now} behind it. Make the values "
        "alike, or pass a pyarrow Table with the types you want. Nothing was sent."
    )


def _as_they_are(kind: Any) -> bool:
    return bool(types.is_nested(kind) or is_json(kind))
