"""Tables that come as Python values: dicts, dataclasses, models; and iterables of record batches.

Arrow finds one type for all values of a column, and makes them alike for that: a date of a
datetime that stands beside dates, fields with nulls where objects have different ones. What a row
says would then depend on the rows beside it, and so would its key. So each value is read alone
here: values of different types, and objects that are not alike, travel as JSON, each as it is.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from itertools import chain, islice
from numbers import Integral, Real
from typing import Any, TypeAlias, TypeGuard

import pyarrow as pa

from spooled_pipelines.batch.arrow_types import storage_array, to_text
from spooled_pipelines.batch.exact_json import InexactNumber, encode_with_exact_numbers
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
        return _to_array(values)
    except (pa.ArrowException, OverflowError, ValueError, TypeError) as error:
        raise InvalidArgumentError(
            f"column {name!r}, rows {row} to {row + len(values) - 1}: the values cannot be read "
            f"({one_line(error)}). Convert them. Nothing was sent."
        ) from None
    except _NotJsonError as error:
        raise InvalidArgumentError(
            f"column {name!r}, row {row + error.index}: {error.reason}. Nothing was sent."
        ) from None


# The first that a type belongs to; a datetime is a date for Python, and a bool is a number.
_FAMILIES: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("bool", (bool,)),
    ("text", (str,)),
    ("bytes", (bytes, bytearray, memoryview)),
    ("time", (dt.datetime,)),
    ("date", (dt.date,)),
    ("time of day", (dt.time,)),
    ("duration", (dt.timedelta,)),
    ("decimal", (Decimal,)),
    ("uuid", (uuid.UUID,)),
    ("object", (Mapping,)),
    ("list", (list, tuple)),
    ("number", (Integral, Real)),
)


def _to_array(values: list[Any]) -> pa.Array:
    """Return one array of the values; None is null.

    Raises:
        ValueError, TypeError, pyarrow.ArrowException: Arrow does not know their type.
        _NotJsonError: they have no common type, and one of them cannot be JSON either.
    """
    classes = _classes(values)
    if any(cls.__name__ in ("NaTType", "NAType") for cls in classes):
        values = [
            None if type(value).__name__ in ("NaTType", "NAType") else value for value in values
        ]
        classes = _classes(values)
    families = {_family(cls) for cls in classes}
    if len(families) > 1 or InexactNumber in classes:
        return _json_array(values)
    if families & {"object", "list"}:
        return _nested_array(values)
    _refuse_mixed_zones(values, families)
    try:
        arrow_type = _nanosecond_type(values, families)
        return pa.array(_arrow_values(values, classes), arrow_type, from_pandas=False)
    except (OverflowError, pa.ArrowInvalid):
        if not families <= {"number", "time", "duration"}:
            raise
        # Integers beyond 64 bits, or times that nanoseconds cannot count: each is said by itself.
        return _json_array(values)


def _classes(values: Iterable[Any]) -> set[type]:
    return set(map(type, values)) - {type(None)}


def _family(cls: type) -> str:
    for family, classes in _FAMILIES:
        if issubclass(cls, classes):
            return family
    is_numpy = cls.__module__ == "numpy"
    if is_numpy and cls.__name__ in ("bool", "bool_"):
        return "bool"
    if is_numpy and cls.__name__ in ("datetime64", "timedelta64"):
        return "time" if cls.__name__ == "datetime64" else "duration"
    if issubclass(cls, (set, frozenset)):
        raise TypeError("a set has no order: pass sorted(value)")
    return f"{cls.__module__}.{cls.__qualname__}"


def _refuse_mixed_zones(values: list[Any], families: set[str]) -> None:
    if families & {"time", "time of day"}:
        # NaT, which differs from itself, is null.
        times = [value for value in values if value is not None and value == value]
        aware = {getattr(value, "tzinfo", None) is not None for value in times}
        if len(aware) > 1:
            raise ValueError("times with a zone and times without")
        if aware == {True} and "time of day" in families:
            raise ValueError("a time of day with a zone, which Arrow would drop")


def _nanosecond_type(values: list[Any], families: set[str]) -> pa.DataType | None:
    """Return a type that keeps the nanoseconds of pandas' times, which Arrow's guess does not."""
    if families == {"time"} and any(getattr(value, "nanosecond", 0) for value in values):
        aware = any(getattr(value, "tzinfo", None) is not None for value in values)
        return pa.timestamp("ns", "UTC" if aware else None)
    if families == {"duration"} and any(getattr(value, "nanoseconds", 0) for value in values):
        return pa.duration("ns")
    return None


def _arrow_values(values: list[Any], classes: set[type]) -> list[Any]:
    if any(cls.__name__ == "NaTType" for cls in classes):
        return [value if value == value else None for value in values]
    if any(issubclass(cls, Enum) for cls in classes):
        return [value.value if isinstance(value, Enum) else value for value in values]
    return values


def _nested_array(values: list[Any]) -> pa.Array:
    if _are_alike(values):
        return pa.array(values, from_pandas=False)
    return _json_array(values)


class _NotJsonError(Exception):
    """A value that cannot be JSON, at `index` of its column."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        self.reason = reason


def _json_array(values: list[Any]) -> pa.Array:
    texts = [_json_text_or_null(value, index) for index, value in enumerate(values)]
    return pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(texts, pa.string()))


def _are_alike(values: list[Any]) -> bool:
    """Return whether Arrow's type for the values says of each what it is, and adds nothing."""
    values = [value for value in values if value is not None]
    classes = _classes(values)
    if not classes:
        return True
    families = {_family(cls) for cls in classes}
    if len(families) > 1:
        return False
    if families == {"list"}:
        return _are_alike(list(chain.from_iterable(values)))
    if families != {"object"}:
        _refuse_mixed_zones(values, families)
        if InexactNumber in classes or _nanosecond_type(values, families) is not None:
            return False
        # Arrow knows UUIDs, enums and NaT only at the top of a column.
        return families != {"uuid"} and _arrow_values(values, classes) is values
    names = values[0].keys()
    if not classes <= {dict} or not all(value.keys() == names for value in values):
        return False
    _check_names(names)
    return all(_are_alike([value[name] for value in values]) for name in names)


def _check_names(names: Iterable[Any]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"an object has the key {name!r}, and names are texts")


def _json_text_or_null(value: object, index: int) -> str | None:
    if value is None:
        return None
    try:
        return None if isinstance(value, float) and math.isnan(value) else _json_text(value)
    except (TypeError, ValueError, OverflowError, pa.ArrowException) as error:
        raise _NotJsonError(index, one_line(error)) from None


def _json_text(value: object) -> str:
    return encode_with_exact_numbers(_to_jsonable(value))


def _to_jsonable(value: object) -> object:
    if type(value) in (str, int, float, bool, InexactNumber) or value is None:
        return value
    if isinstance(value, Mapping):
        _check_names(value)
        return {name: _to_jsonable(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_jsonable(inner) for inner in value]
    if isinstance(value, Enum):
        return _to_jsonable(value.value)
    return _scalar_to_jsonable(value)


def _scalar_to_jsonable(value: object) -> object:
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return _to_jsonable(value.tolist())
    family = _family(type(value))
    if family in ("time", "date", "time of day", "duration", "decimal", "uuid"):
        _refuse_mixed_zones([value], {family})
        arrow_type = _nanosecond_type([value], {family})
        return to_text(storage_array(pa.array([value], arrow_type)), "").to_pylist()[0]
    if family == "text":
        return str(value)
    if family == "number" and isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise TypeError(
        f"a value of type {type(value).__name__} cannot stand beside values of other types"
    )
