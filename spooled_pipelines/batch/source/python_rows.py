"""Tables as Python values (dicts, dataclasses, models), and iterables of record batches."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, TypeAlias, TypeGuard

import pyarrow as pa

from spooled_pipelines.batch.source.python_values import NotJsonError, to_array
from spooled_pipelines.batch.source.row_filter import Opened
from spooled_pipelines.errors import EmptyTableError, InvalidArgumentError
from spooled_pipelines.text import one_line

# A column of a chunk of rows: Python values, or an Arrow array.
Column: TypeAlias = "list[Any] | pa.Array"
_END = object()


def from_iterable(
    data: Iterable[Any],
    rows: int,
    accepted: str,
    open_table: Callable[[object], Opened] | None = None,
) -> Opened:
    """Open an iterable; its first item says what it holds. `open_table` opens one that is a table.

    Raises:
        InvalidArgumentError: it holds no rows of a known kind; `accepted` says what data may be.
    """
    iterator = iter(data)
    first = next(iterator, _END)
    if first is _END:
        raise EmptyTableError("the data has no rows, so there is nothing to enqueue.")
    items = chain([first], iterator)
    if isinstance(first, pa.RecordBatch):
        return first.schema, _check_batches(items, first.schema)
    if open_table is not None and hasattr(first, "__arrow_c_stream__"):
        # Pieces of one table, such as those of pandas' read_csv(chunksize=).
        return _chain_tables(map(open_table, items))
    as_dict = _to_dict_of(first)
    if as_dict is None:
        raise InvalidArgumentError(
            f"data must be {accepted}, got an iterable of {type(first).__name__}."
        )
    names = None
    if isinstance(first, Mapping) and isinstance(data, Sequence):
        # A sequence can be gone through twice, so its columns are those of all its rows.
        names = _all_names(data)
    read = map(as_dict, items)
    if not isinstance(data, Sequence):
        # A generator may fill the same dict again and again.
        read = map(_copy_row, read)
    return _from_dicts(read, names, rows)


def _chain_tables(opened: Iterator[Opened]) -> Opened:
    schema, head = next(opened)
    names = schema.names

    def batches() -> Iterator[pa.RecordBatch]:
        yield from head
        for number, (other, pieces) in enumerate(opened, start=1):
            if sorted(other.names) != sorted(names):
                raise InvalidArgumentError(
                    f"table {number} has the columns {', '.join(other.names)}, and the first one "
                    f"{', '.join(names)}. Give all of them the same. Nothing was sent."
                )
            for piece in pieces:
                yield piece.select(names)

    return schema, batches()


def holds_columns(data: object) -> TypeGuard[Mapping[str, Sequence[Any]]]:
    """Return whether this is a dict of equally long lists, each of which is a column."""
    if not isinstance(data, Mapping) or not data:
        return False
    columns = list(data.values())
    return all(isinstance(column, (list, tuple)) for column in columns) and (
        len({len(column) for column in columns}) == 1
    )


def from_columns(data: Mapping[str, Sequence[Any]], rows: int) -> Opened:
    """Open a dict of equally long lists.

    Raises:
        InvalidArgumentError: a name is not text, or there are no rows.
    """
    _check_column_names(data)
    count = len(next(iter(data.values())))
    if not count:
        raise EmptyTableError("the data has no rows, so there is nothing to enqueue.")
    chunks = (
        [list(column[start : start + rows]) for column in data.values()]
        for start in range(0, count, rows)
    )
    return from_chunks(list(data), chunks)


def _check_column_names(names: Iterable[Any]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise InvalidArgumentError(f"a row's keys must be texts, got {name!r}.")


def _copy_row(row: Any) -> Any:
    if not isinstance(row, Mapping):
        return row
    return {
        name: copy.deepcopy(value) if isinstance(value, (dict, list, bytearray)) else value
        for name, value in row.items()
    }


def _to_dict_of(first: Any) -> Callable[[Any], Any] | None:
    """Return the function that makes a dict of each row that is like the first one, or None."""
    cls = type(first)
    if isinstance(first, Mapping):
        return lambda row: row
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        return lambda row: dataclasses.asdict(row) if isinstance(row, cls) else row
    if callable(getattr(cls, "model_dump", None)):
        return lambda row: row.model_dump() if isinstance(row, cls) else row
    if isinstance(first, tuple) and hasattr(cls, "_fields"):
        return lambda row: row._asdict() if isinstance(row, cls) else row
    return None


def _check_batches(items: Iterable[Any], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for number, record_batch in enumerate(items):
        is_batch = isinstance(record_batch, pa.RecordBatch)
        if not is_batch or not record_batch.schema.equals(schema):
            raise InvalidArgumentError(
                f"record batch {number} has other columns or types than the first one: "
                f"{_difference(record_batch, schema)}. Nothing was sent."
            )
        yield record_batch


def _difference(item: object, schema: pa.Schema) -> str:
    if not isinstance(item, pa.RecordBatch):
        return f"it is of type {type(item).__name__}"
    before = {field.name: str(field.type) for field in schema}
    here = {field.name: str(field.type) for field in item.schema}
    for name in [*before, *here]:
        if before.get(name) != here.get(name):
            was = before.get(name, "there before")
            return f"{name!r} is {here.get(name, 'missing')}, not {was}"
    return "the columns are in another order, or a column may be null where it could not before"


def _from_dicts(
    items: Iterable[Mapping[str, Any]], names: dict[str, None] | None, rows: int
) -> Opened:
    iterator = iter(items)
    head = list(islice(iterator, rows))
    names = _all_names(head) if names is None else names
    _check_column_names(names)

    def chunks() -> Iterator[list[Column]]:
        chunk = head
        row = 0
        while chunk:
            _refuse_unlike(chunk, names, row)
            yield [[item.get(name) for item in chunk] for name in names]
            row += len(chunk)
            chunk = list(islice(iterator, rows))

    return from_chunks(list(names), chunks())


def from_chunks(names: list[str], chunks: Iterator[list[Column]]) -> Opened:
    """Open chunks of columns of values.

    A chunk has rows; without any chunk there are no record batches, and no types.
    """
    first = next(chunks, None)
    if first is None:
        return pa.schema([(name, pa.null()) for name in names]), iter(())
    head = _to_record_batch(first, names, 0)

    def batches() -> Iterator[pa.RecordBatch]:
        yield head
        row = head.num_rows
        for chunk in chunks:
            # A column may have another type than before: each row is sent as it is.
            record_batch = _to_record_batch(chunk, names, row)
            yield record_batch
            row += record_batch.num_rows

    return head.schema, batches()


def _all_names(items: Iterable[Any]) -> dict[str, None]:
    names: dict[str, None] = {}
    for item in items:
        if isinstance(item, Mapping):
            names.update(dict.fromkeys(item))
    return names


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


def _to_record_batch(chunk: list[Column], names: list[str], row: int) -> pa.RecordBatch:
    columns = [
        _named_array(name, values, row) if isinstance(values, list) else values
        for name, values in zip(names, chunk, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=names)


def _named_array(name: str, values: list[Any], row: int) -> pa.Array:
    try:
        return to_array(values)
    except (pa.ArrowException, OverflowError, ValueError, TypeError, RecursionError) as error:
        raise InvalidArgumentError(
            f"column {name!r}, rows {row} to {row + len(values) - 1}: the values cannot be read "
            f"({one_line(error)}). Convert them. Nothing was sent."
        ) from None
    except NotJsonError as error:
        raise InvalidArgumentError(
            f"column {name!r}, row {row + error.index}: {error.reason}. Nothing was sent."
        ) from None
