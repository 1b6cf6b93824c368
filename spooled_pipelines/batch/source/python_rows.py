"""Tables that come as Python values: dicts, dataclasses, models; and iterables of record batches.

Arrow finds one type for all values of a column, and makes them alike for that: a date of a
datetime that stands beside dates, fields with nulls where objects have different ones. What a row
says would then depend on the rows beside it, and so would its key. So each value is read alone
here: values that do not go together are refused, and objects that are not alike travel as JSON,
each as it is.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from itertools import chain, islice
from numbers import Integral, Real
from typing import Any, TypeAlias

import pyarrow as pa
from pyarrow import types

from spooled_pipelines.batch.arrow_types import is_json, storage_array, to_text
from spooled_pipelines.batch.source.row_filter import Opened
from spooled_pipelines.batch.source.type_compat import compatible_types
from spooled_pipelines.errors import EmptyTableError, InvalidArgumentError
from spooled_pipelines.text import one_line

# A column of a chunk of rows: Python values, or an Arrow array.
Column: TypeAlias = "list[Any] | pa.Array"


def from_iterable(data: Iterable[Any], rows: int, accepted: str) -> Opened:
    """Open an iterable; its first item says what it holds.

    Raises:
        InvalidArgumentError: it holds no rows of a known kind; `accepted` says what data may be.
    """
    iterator = iter(data)
    first = next(iterator, None)
    if first is None:
        raise EmptyTableError("the data has no rows, so there is nothing to enqueue.")
    items = chain([first], iterator)
    if isinstance(first, pa.RecordBatch):
        return first.schema, _check_batches(items, first.schema)
    as_dict = _to_dict_of(first)
    if as_dict is None:
        raise InvalidArgumentError(
            f"data must be {accepted}, got an iterable of {type(first).__name__}."
        )
    names = None
    if isinstance(first, Mapping) and isinstance(data, Sequence):
        # A sequence can be gone through twice, so its columns are those of all its rows.
        names = _all_names(data)
    return _from_dicts(map(as_dict, items), names, rows)


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
    for name in names:
        if not isinstance(name, str):
            raise InvalidArgumentError(f"a row's keys must be texts, got {name!r}.")

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
    known = [field.type for field in head.schema]

    def batches() -> Iterator[pa.RecordBatch]:
        yield head
        row = head.num_rows
        for chunk in chunks:
            record_batch = _to_record_batch(chunk, names, row)
            for index, name in enumerate(names):
                now = record_batch.schema.field(index).type
                known[index] = _merge_types(name, known[index], now, row)
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
            f"column {name!r}, rows {row} to {row + len(values) - 1}: the values have no common "
            f"type ({one_line(error)}). Make them alike. Nothing was sent."
        ) from None


def _merge_types(name: str, before: pa.DataType, now: pa.DataType, row: int) -> pa.DataType:
    """Return the column's type from here on; a change that a payload would show is refused."""
    if now == before or types.is_null(now):
        return before
    if types.is_null(before):
        return now
    if _is_sent_as_is(before) and _is_sent_as_is(now):
        return now
    if compatible_types(before, now):
        return before
    raise InvalidArgumentError(
        f"column {name!r} is {before} up to row {row - 1}, and {now} after it. Make the values "
        "alike, or pass a pyarrow Table with the types you want. Nothing was sent."
    )


def _is_sent_as_is(arrow_type: pa.DataType) -> bool:
    """Return whether this type is of objects and lists, of which each row is sent as it is."""
    return bool(types.is_nested(arrow_type) or is_json(arrow_type))


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
        ValueError, TypeError, OverflowError, pyarrow.ArrowException: they have no common type, or
            none that Arrow knows.
    """
    classes = _classes(values)
    families = {_family(cls) for cls in classes}
    if len(families) > 1:
        raise TypeError(" and ".join(sorted(cls.__name__ for cls in classes)))
    if families & {"object", "list"}:
        return _nested_array(values)
    _refuse_mixed_zones(values, families)
    return pa.array(_arrow_values(values, classes), from_pandas=False)


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


def _arrow_values(values: list[Any], classes: set[type]) -> list[Any]:
    if any(cls.__name__ == "NaTType" for cls in classes):
        return [value if value == value else None for value in values]
    if any(issubclass(cls, Enum) for cls in classes):
        return [value.value if isinstance(value, Enum) else value for value in values]
    return values


def _nested_array(values: list[Any]) -> pa.Array:
    if _are_alike(values):
        return pa.array(values, from_pandas=False)
    texts = [None if value is None else _json_text(value) for value in values]
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


def _json_text(value: object) -> str:
    return json.dumps(_to_jsonable(value), ensure_ascii=False, separators=(",", ":"))


def _to_jsonable(value: object) -> object:
    if type(value) in (str, int, float, bool) or value is None:
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
        return to_text(storage_array(pa.array([value])), "").to_pylist()[0]
    if family == "text":
        return str(value)
    if family == "number" and isinstance(value, Integral):
        return int(value)
    raise TypeError(f"{type(value).__name__} beside objects of other fields")
