"""JSON text in a column as the value that it says, not as text."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from spooled_pipelines.batch.encoding.protobuf_wire import (
    FIRST,
    SECOND,
    VALUE_FALSE,
    VALUE_LIST,
    VALUE_NULL,
    VALUE_NUMBER,
    VALUE_STRUCT,
    VALUE_TEXT,
    VALUE_TRUE,
    double,
    varint,
    with_length,
)
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.wire.limits import EXACT_INTEGER_MAX

if TYPE_CHECKING:
    from spooled_pipelines.batch.encoding.values import Place

# What the value of a text that a payload cannot hold is instead: text, why -> a Value's bytes.
Unfit = Callable[[str, str], bytes]
# Parsers of protobuf give up at 100 messages inside each other; those around the payload count.
_DEPTH_MAX = 96


def json_values(array: Any, place: Place) -> Any:
    """The Value message of each text, a binary array; null where the text is.

    Raises:
        InvalidArgumentError: a text is no JSON, with its column and row.
        LossyValueError: as `place` says.
    """
    made: list[bytes | None] = []
    for index, text in enumerate(array.to_pylist()):
        if text is None:
            made.append(None)
            continue
        value = parsed(text)
        if value is BROKEN:
            raise InvalidArgumentError(
                f"column {place.path!r}, row {place.row_of(index)}: this is no JSON, or an object "
                "in it has one name twice. Nothing was sent."
            )

        def unfit(shown: str, why: str, index: int = index) -> bytes:
            return place.unfit(index, shown, why)

        made.append(value_bytes(value, unfit, place.depth))
    return pa.array(made, pa.binary())


class _Broken:
    """What is no JSON."""


BROKEN = _Broken()


def parsed(text: str | bytes) -> Any:
    """The value, or BROKEN."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return BROKEN


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        # Of two values under one name one would be dropped, and nobody would know.
        raise ValueError("one name twice")
    return made


def value_bytes(value: Any, unfit: Unfit, depth: int) -> bytes:
    """A google.protobuf.Value, the same bytes as a column of an Arrow type would give."""
    if isinstance(value, str):
        return VALUE_TEXT + _text(value)
    if isinstance(value, bool):
        return VALUE_TRUE if value else VALUE_FALSE
    if value is None:
        return VALUE_NULL
    if isinstance(value, int):
        if abs(value) > EXACT_INTEGER_MAX:
            why = "is beyond ±2**53, where a payload's number (a double) is not exact"
            return unfit(str(value), why)
        return VALUE_NUMBER + double(value)
    if isinstance(value, float):
        if math.isnan(value):
            return VALUE_NULL
        if math.isinf(value):
            shown = "Infinity" if value > 0 else "-Infinity"
            return unfit(shown, "is not a number that a payload can hold")
        return VALUE_NUMBER + double(value)
    if isinstance(value, dict):
        return with_length(VALUE_STRUCT, object_bytes(value, unfit, depth + 3))
    return with_length(VALUE_LIST, _list_bytes(value, unfit, depth + 2))


def object_bytes(value: dict[str, Any], unfit: Unfit, depth: int) -> bytes:
    """The fields of a Struct, in the order of their names."""
    _refuse_deep(depth)
    entries = []
    for name in sorted(value):
        key = FIRST + _text(name)
        inner = value_bytes(value[name], unfit, depth)
        entries.append(with_length(FIRST, key + with_length(SECOND, inner)))
    return b"".join(entries)


def _list_bytes(values: list[Any], unfit: Unfit, depth: int) -> bytes:
    _refuse_deep(depth)
    return b"".join(with_length(FIRST, value_bytes(value, unfit, depth)) for value in values)


def _text(text: str) -> bytes:
    try:
        coded = text.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError(
            "a JSON text holds half a surrogate pair, which is no valid text. Nothing was sent."
        ) from None
    return varint(len(coded)) + coded


def _refuse_deep(depth: int) -> None:
    if depth > _DEPTH_MAX:
        raise InvalidArgumentError(
            f"a JSON text is nested too deeply: what is {depth} messages deep on the wire cannot "
            f"be read ({_DEPTH_MAX} can). Flatten it."
        )
