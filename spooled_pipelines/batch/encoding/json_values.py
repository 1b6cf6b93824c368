"""JSON text in a column as the value that it says, not as text."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.encoding.json_scalars import encode_scalars
from spooled_pipelines.batch.encoding.protobuf_wire import (
    FIELD_1,
    FIELD_2,
    VALUE_FALSE,
    VALUE_LIST,
    VALUE_NULL,
    VALUE_NUMBER,
    VALUE_STRING,
    VALUE_STRUCT,
    VALUE_TRUE,
    bytes_field,
    double,
    varint,
)
from spooled_pipelines.batch.encoding.value_context import ValueContext
from spooled_pipelines.batch.options.row_options import Lossy
from spooled_pipelines.batch.values.exact_json import (
    DecimalText,
    InexactNumber,
    decode,
    trim_decimal,
)
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.wire.limits import EXACT_INTEGER_MAX, MESSAGE_DEPTH_MAX

# So many texts of so many characters are remembered: values come again and again.
_REMEMBERED, _REMEMBERED_CHARACTERS = 4096, 80
# The Value messages of texts, by all that a message depends on.
_known: defaultdict[tuple[Lossy, int, bool, bool], dict[str, bytes]] = defaultdict(dict)


def encode_json(texts: pa.StringArray, context: ValueContext) -> pa.BinaryArray:
    """Return the Value message of each text; null where the text is.

    Raises:
        InvalidArgumentError: a text is not JSON, with its column and row.
        LossyValueError: as `context` says.
    """
    encoded = encode_scalars(texts, unsigned_zeros=context.unsigned_zeros)
    is_left = pc.and_(encoded.is_null(), texts.is_valid())
    left = texts.filter(is_left).to_pylist()
    if not left:
        return encoded
    indices = pc.indices_nonzero(is_left).to_pylist()
    messages: list[bytes] = []
    known = _known[context.on_lossy, context.depth, context.trims_decimals, context.unsigned_zeros]
    # What is rounded is counted each time.
    remembers = context.on_lossy != "round"
    for index, text in zip(indices, left, strict=True):
        made = known.get(text)
        if made is None:
            value = parse_or_invalid(text)
            if isinstance(value, _Invalid):
                raise InvalidArgumentError(
                    f"column {context.path!r}, row {context.row_of(index)}: this is not JSON, or "
                    "an object in it has one name twice. Nothing was sent."
                )
            made = _encode_value(value, index, context, context.depth)
            if remembers and len(text) <= _REMEMBERED_CHARACTERS:
                if len(known) >= _REMEMBERED:
                    known.clear()
                known[text] = made
        messages.append(made)
    return pc.replace_with_mask(encoded, is_left, pa.array(messages, pa.binary()))


def encode_json_object(value: dict[str, Json], index: int, context: ValueContext) -> bytes:
    """Return the content of the Struct of an object, which stands at `index` of its column."""
    return _encode_object(value, index, context, context.depth)


# The value of a JSON text.
Json: TypeAlias = "str | bool | int | float | InexactNumber | dict[str, Json] | list[Json] | None"


class _Invalid:
    """The type of `INVALID`."""


# The result of parsing a text that is not JSON.
INVALID = _Invalid()


def parse_or_invalid(text: str | bytes) -> Json | _Invalid:
    """Return the value of a JSON text, or INVALID."""
    try:
        value: Json = decode(text if isinstance(text, str) else text.decode())
    except (ValueError, RecursionError):
        return INVALID
    return value


def _encode_value(value: Json, index: int, context: ValueContext, depth: int) -> bytes:
    """Return a google.protobuf.Value: the same bytes as a column of an Arrow type would give."""
    if type(value) is str:
        return VALUE_STRING + _encode_text(value)
    if type(value) is float and math.isfinite(value):
        return VALUE_NUMBER + double(value + 0.0 if context.unsigned_zeros else value)
    if isinstance(value, str):
        if context.trims_decimals and isinstance(value, DecimalText):
            value = trim_decimal(value)
        return VALUE_STRING + _encode_text(value)
    if value is None:
        return VALUE_NULL
    if isinstance(value, bool):
        return VALUE_TRUE if value else VALUE_FALSE
    if isinstance(value, int):
        if abs(value) > EXACT_INTEGER_MAX:
            why = "is beyond ±2**53, where a payload's number (a double) is not exact"
            return context.replacement(index, str(value), why, _nearest(value))
        return VALUE_NUMBER + double(value)
    if isinstance(value, float):
        if math.isnan(value):
            return VALUE_NULL
        text = "Infinity" if value > 0 else "-Infinity"
        why = "is not a number that a payload can hold"
        return context.replacement(index, text, why, None)
    if isinstance(value, InexactNumber):
        why = "has more digits than a payload's number (a double) holds"
        return context.replacement(index, str(value), why, _nearest(value))
    if isinstance(value, dict):
        return bytes_field(VALUE_STRUCT, _encode_object(value, index, context, depth + 3))
    return bytes_field(VALUE_LIST, _encode_list(value, index, context, depth + 2))


def _nearest(number: int | InexactNumber) -> float | None:
    try:
        double = float(number)
    except OverflowError:
        return None
    return double if math.isfinite(double) else None


def _encode_object(value: dict[str, Json], index: int, context: ValueContext, depth: int) -> bytes:
    """Return the fields of a Struct, in the order of their names."""
    _refuse_deep(depth)
    entries = []
    for name in sorted(value):
        key = FIELD_1 + _encode_text(name)
        inner = _encode_value(value[name], index, context, depth)
        entries.append(bytes_field(FIELD_1, key + bytes_field(FIELD_2, inner)))
    return b"".join(entries)


def _encode_list(values: list[Json], index: int, context: ValueContext, depth: int) -> bytes:
    _refuse_deep(depth)
    return b"".join(
        bytes_field(FIELD_1, _encode_value(value, index, context, depth)) for value in values
    )


def _encode_text(text: str) -> bytes:
    try:
        content = text.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError(
            "a JSON text holds half a surrogate pair, which is not valid text. Nothing was sent."
        ) from None
    return varint(len(content)) + content


def _refuse_deep(depth: int) -> None:
    if depth > MESSAGE_DEPTH_MAX:
        raise InvalidArgumentError(
            f"a JSON text is nested too deeply: a payload can be {MESSAGE_DEPTH_MAX} messages deep "
            f"on the wire, and this is {depth}. Flatten it."
        )
