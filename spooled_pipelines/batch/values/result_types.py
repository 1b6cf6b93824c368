"""Whether results go together in one table: with the types that the first of their batch had."""

from __future__ import annotations

import math
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any

import pyarrow as pa
from pyarrow import types

from spooled_pipelines.batch.values.arrow_types import any_type, is_list, is_string
from spooled_pipelines.batch.values.exact_arrays import MisfitError
from spooled_pipelines.batch.values.table_arrays import is_bytes, table_array
from spooled_pipelines.rpc.struct import from_struct
from spooled_pipelines.wire.well_known import Struct

_NUMBERS = (int, float, Decimal)


@lru_cache(maxsize=256)
def parsed(serialized: bytes) -> pa.Schema:
    """Return the schema of an IPC message."""
    return pa.ipc.read_schema(pa.py_buffer(serialized))


@lru_cache(maxsize=256)
def always_fits(kept: bytes, given: bytes) -> bool:
    """Return whether any result of the types that are given fits to those that are kept."""
    known = {field.name: field.type for field in parsed(kept)}
    return all(
        types.is_null(field.type) or field.type == known.get(field.name) for field in parsed(given)
    )


def why_misfit(kept: bytes, given: bytes | None, result: bytes) -> str | None:
    """Return why a result does not fit to the types that are kept, without its values.

    `given` are its own types; None: those of JSON.
    """
    fields = from_struct(Struct.FromString(result))
    known = {field.name: field.type for field in parsed(kept)}
    own = {} if given is None else {field.name: field.type for field in parsed(given)}
    for name, value in fields.items():
        kind, was = known.get(name, pa.null()), own.get(name)
        if value is None:
            continue
        if was is not None and any_type(was, types.is_null):
            # Nulls and empty lists alone: what there is of it is JSON's.
            was = None
        if types.is_null(kind):
            # As far as is known it is what JSON says.
            if was is not None and _needs_type(value, was):
                return f"field {name!r} is of type {was}, which no result before it had"
        elif kind != was and not _fits(value, kind, was):
            found = "" if was is None else f"of type {was} and "
            return f"field {name!r} is {found}not of type {kind}, as the batch's first results are"
    return None


def _needs_type(value: Any, was: pa.DataType) -> bool:
    """Return whether JSON alone would not give the value back."""
    is_number = types.is_integer(was) or types.is_floating(was)
    return bool(any_type(was, is_bytes) or (is_number and isinstance(value, str)))


def _fits(value: Any, kind: pa.DataType, was: pa.DataType | None) -> bool:
    if was is not None and _family(kind) != _family(was):
        return False
    try:
        array = table_array(None, lambda: [value], kind)
        if was is None and _family(kind) != "number":
            if not any_type(kind, types.is_floating):
                return True
            return _has_same_fractions(_python_value(array), value)
        # Nothing is rounded.
        kept = _python_value(array)
        original = value
        if was is not None:
            original = _python_value(table_array(None, lambda: [value], was))
    except (MisfitError, OverflowError, ValueError):
        # Times within a list or struct that Python has no type for are not compared.
        return False
    if isinstance(kept, _NUMBERS) and isinstance(original, str):
        return not isinstance(kept, float) or not math.isfinite(kept) or repr(kept) == original
    return bool(kept == original)


def _has_same_fractions(kept: Any, original: Any) -> bool:
    """Return whether no number within lists and structs was rounded; texts may be times."""
    if isinstance(original, dict):
        inner = dict(kept)
        return all(_has_same_fractions(inner[name], each) for name, each in original.items())
    if isinstance(original, list):
        return all(map(_has_same_fractions, kept, original))
    return not isinstance(kept, float) or not isinstance(original, float) or kept == original


def _python_value(array: pa.Array) -> Any:
    kind = array.type
    if types.is_temporal(kind):
        # Python's types do not hold all of them.
        unit = getattr(kind, "unit", "")
        counted = array.view(pa.int32() if kind.bit_width == 32 else pa.int64())[0].as_py()
        return counted * {"s": 10**9, "ms": 10**6, "us": 1_000}.get(unit, 1)
    return array[0].as_py()


@cache
def _family(kind: pa.DataType) -> object:
    """Return what types have in common between which values can go over."""
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if is_string(kind):
        return "text"
    if is_bytes(kind):
        return "bytes"
    if types.is_timestamp(kind):
        return ("timestamp", kind.tz is None)
    if types.is_struct(kind):
        return frozenset((field.name, _family(field.type)) for field in kind)
    if is_list(kind):
        return ("list", _family(kind.value_type))
    for name, applies in (("time", types.is_time), ("duration", types.is_duration)):
        if applies(kind):
            return name
    return kind
