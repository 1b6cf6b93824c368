"""Python values as an Arrow column, each value read alone.

Arrow finds one type for all values of a column, and makes them alike for that: a date of a
datetime that stands beside dates, fields with nulls where objects have different ones. What a row
says would then depend on the rows beside it, and so would its key. Here values that do not go
together are refused, and objects that are not alike travel as JSON, each as it is.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import Enum
from itertools import chain
from numbers import Integral, Real
from typing import Any

import pyarrow as pa

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


def column_of(values: list[Any]) -> Any:
    """One Arrow array of the values; None is null.

    Raises:
        ValueError, TypeError, OverflowError, pyarrow.ArrowException: they have no common type, or
            none that Arrow knows.
    """
    kinds = _kinds(values)
    families = {_family(kind) for kind in kinds}
    if len(families) > 1:
        raise TypeError(" and ".join(sorted(kind.__name__ for kind in kinds)))
    if families & {"object", "list"}:
        return _nested(values)
    _refuse_mixed_zones(values, families)
    return pa.array(_arrow_values(values, kinds), from_pandas=False)


def _kinds(values: Iterable[Any]) -> set[type]:
    return set(map(type, values)) - {type(None)}


def _family(kind: type) -> str:
    for name, classes in _FAMILIES:
        if issubclass(kind, classes):
            return name
    numpy = kind.__module__ == "numpy"
    if numpy and kind.__name__ in ("bool", "bool_"):
        return "bool"
    if numpy and kind.__name__ in ("datetime64", "timedelta64"):
        return "time" if kind.__name__ == "datetime64" else "duration"
    if issubclass(kind, (set, frozenset)):
        raise TypeError("a set has no order: pass sorted(value)")
    return f"{kind.__module__}.{kind.__qualname__}"


def _refuse_mixed_zones(values: list[Any], families: set[str]) -> None:
    if families & {"time", "time of day"}:
        # NaT, which differs from itself, is null.
        there = [value for value in values if value is not None and value == value]
        aware = {getattr(value, "tzinfo", None) is not None for value in there}
        if len(aware) > 1:
            raise ValueError("times with a zone and times without")
        if aware == {True} and "time of day" in families:
            raise ValueError("a time of day with a zone, which Arrow would drop")


def _arrow_values(values: list[Any], kinds: set[type]) -> list[Any]:
    if any(kind.__name__ == "NaTType" for kind in kinds):
        return [value if value == value else None for value in values]
    if any(issubclass(kind, Enum) for kind in kinds):
        return [value.value if isinstance(value, Enum) else value for value in values]
    return values


def _nested(values: list[Any]) -> Any:
    if _alike(values):
        return pa.array(values, from_pandas=False)
    texts = [None if value is None else _json(value) for value in values]
    return pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(texts, pa.string()))


def _alike(values: list[Any]) -> bool:
    """Whether Arrow's type for the values says of each what it is, and adds nothing."""
    there = [value for value in values if value is not None]
    kinds = _kinds(there)
    if not kinds:
        return True
    families = {_family(kind) for kind in kinds}
    if len(families) > 1:
        return False
    if families == {"list"}:
        return _alike(list(chain.from_iterable(there)))
    if families != {"object"}:
        _refuse_mixed_zones(there, families)
        # These Arrow only knows at the top.
        return families != {"uuid"} and _arrow_values(there, kinds) is there
    names = there[0].keys()
    if not kinds <= {dict} or not all(value.keys() == names for value in there):
        return False
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"an object has the key {name!r}, and names are texts")
    return all(_alike([value[name] for value in there]) for name in names)


def _json(value: Any) -> str:
    return json.dumps(_as_json(value), ensure_ascii=False, separators=(",", ":"))


def _as_json(value: Any) -> Any:
    kind = type(value)
    if kind in (str, int, float, bool) or value is None:
        return value
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise TypeError(f"an object has the key {name!r}, and names are texts")
        return {name: _as_json(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(inner) for inner in value]
    if isinstance(value, Enum):
        return _as_json(value.value)
    return _scalar_as_json(value)


def _scalar_as_json(value: Any) -> Any:
    from spooled_pipelines.batch.encoding.values import as_text, plain

    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return _as_json(value.tolist())
    family = _family(type(value))
    if family in ("time", "date", "time of day", "duration", "decimal", "uuid"):
        _refuse_mixed_zones([value], {family})
        return as_text(plain(pa.array([value])), "").to_pylist()[0]
    if family == "text":
        return str(value)
    if family == "number" and isinstance(value, Integral):
        return int(value)
    raise TypeError(f"{type(value).__name__} beside objects of other fields")
