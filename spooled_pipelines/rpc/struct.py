"""Plain dicts to `google.protobuf.Struct` and back, exactly or not at all.

A Struct holds null, booleans, doubles, strings, lists and objects. A value that would not come
out as it went in is refused, with its path.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, NoReturn

from spooled_pipelines.errors import InvalidArgumentError, LossyValueError
from spooled_pipelines.text import shorten
from spooled_pipelines.wire import limits
from spooled_pipelines.wire.well_known import ListValue, Struct, Value

_SHOWN = 40
# A control character takes one byte on the wire and six in JSON; nothing grows more.
_JSON_GROWTH_MAX = 6


def to_struct(value: Mapping[str, Any] | str, *, what: str = "payload") -> Struct:
    """Return the Struct for a mapping, or for the text of a JSON object.

    Raises:
        LossyValueError: a value in it would not survive; `column` holds its path.
        InvalidArgumentError: it is not an object, too deeply nested, or above 1 MiB as JSON.
    """
    if isinstance(value, str):
        value = _parsed(value, what)
    if not isinstance(value, Mapping):
        raise InvalidArgumentError(
            f"{what} must be a mapping, or the text of a JSON object, got {type(value).__name__}"
        )
    struct = Struct()
    _fill_struct(struct, value, what, 1)
    refuse_large(struct, what)
    return struct


def from_struct(struct: Struct) -> dict[str, Any]:
    """Return the dict in a Struct. Whole numbers up to 2**53 become int, others float."""
    # Not by `items`, which takes as long as the rest.
    fields = struct.fields
    return {name: _plain(fields[name]) for name in fields}


def from_list_value(values: ListValue) -> list[Any]:
    """Return the list in a ListValue."""
    return [_plain(value) for value in values.values]


def json_size(struct: Struct) -> int:
    """Return the size of a Struct as compact JSON in UTF-8, in bytes."""
    text = json.dumps(from_struct(struct), ensure_ascii=False, separators=(",", ":"))
    return len(text.encode())


def refuse_large(struct: Struct, what: str) -> None:
    """Raise InvalidArgumentError where a Struct is above the limit as JSON."""
    if struct.ByteSize() * _JSON_GROWTH_MAX <= limits.PAYLOAD_MAX_BYTES:
        return
    size = json_size(struct)
    if size > limits.PAYLOAD_MAX_BYTES:
        raise InvalidArgumentError(
            f"{what} must be at most {limits.PAYLOAD_MAX_BYTES} bytes (1 MiB) as JSON, got {size}: "
            "store the large part elsewhere and send its address"
        )


def _parsed(text: str, what: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=unique_names)
    except ValueError as error:
        raise InvalidArgumentError(
            f"{what} is text, but not a JSON object: {_without_document(error)}"
        ) from None
    if not isinstance(value, dict):
        raise InvalidArgumentError(
            f"{what} must be the JSON of an object, got that of {_article(type(value).__name__)}"
        )
    return value


def _without_document(error: ValueError) -> str:
    # A JSONDecodeError carries the whole text, which is payload.
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    return str(error)


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dict, for `object_pairs_hook`.

    Raises:
        ValueError: a name stands in it twice, and one of its two values would be dropped silently.
    """
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object has one name twice")
    return value


def _fill_struct(struct: Struct, mapping: Mapping[Any, Any], path: str, depth: int) -> None:
    # Inside a Struct: a map entry and its Value.
    _refuse_deep(path, depth + 2)
    for name, value in mapping.items():
        if not isinstance(name, str):
            _lossy(path, name, f"the key {_shown(name)} is {_article(type(name).__name__)}", "str")
        here = f"{path}.{name}"
        _check_text(name, here)
        _fill_value(struct.fields[name], value, here, depth + 2)


def _fill_value(target: Value, value: Any, path: str, depth: int) -> None:
    if value is None:
        target.null_value = 0  # type: ignore[assignment]  # the stub wants the enum's own type
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, str):
        _check_text(value, path)
        target.string_value = value
    elif isinstance(value, Integral):
        target.number_value = _exact_integer(int(value), path)
    elif isinstance(value, float):
        target.number_value = _finite(value, path)
    elif isinstance(value, Mapping):
        target.struct_value.SetInParent()
        _fill_struct(target.struct_value, value, path, depth + 1)
    elif isinstance(value, list | tuple):
        target.list_value.SetInParent()
        _fill_list(target.list_value, value, path, depth + 1)
    else:
        _fill_foreign(target, value, path, depth)


def _fill_list(target: ListValue, values: list[Any] | tuple[Any, ...], path: str, d: int) -> None:
    _refuse_deep(path, d + 1)
    for number, value in enumerate(values):
        _fill_value(target.values.add(), value, f"{path}[{number}]", d + 1)


def _fill_foreign(target: Value, value: Any, path: str, depth: int) -> None:
    # NumPy's scalars know their plain Python value, and NumPy need not be imported for that.
    if type(value).__module__ == "numpy" and callable(getattr(value, "item", None)):
        plain = value.item() if getattr(value, "ndim", 1) == 0 else value.tolist()
        if type(plain).__module__ != "numpy":
            _fill_value(target, plain, path, depth)
            return
    if isinstance(value, Real) and (number := _exact_number(value)) is not None:
        target.number_value = _finite(number, path)
        return
    _lossy(path, value, f"{_article(type(value).__name__)} has no form in JSON", _advice(value))


def _exact_integer(value: int, path: str) -> float:
    if abs(value) > limits.EXACT_INTEGER_MAX:
        _lossy(path, value, f"the integer {_shown(value)} is beyond 2**53", "text")
    return float(value)


def _exact_number(value: Real) -> float | None:
    """Return the float that equals the value, if there is one."""
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if number == value else None


def _finite(value: float, path: str) -> float:
    if not math.isfinite(value):
        _lossy(path, value, f"{value!r} is not a number that JSON knows", "None or text")
    return value


def _check_text(value: str, path: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        _lossy(path, value, "the text holds half a surrogate pair", "valid Unicode")


def _refuse_deep(path: str, depth: int) -> None:
    if depth > limits.MESSAGE_DEPTH_MAX:
        shown = shorten(path, _SHOWN)
        raise InvalidArgumentError(
            f"{shown} is nested too deeply (about 30 objects or 45 lists inside each other are "
            "the most that servers read, or it contains itself): send the inner part as JSON text"
        )


def _advice(value: object) -> str:
    kind = type(value).__name__
    if isinstance(value, bytes | bytearray | memoryview):
        return "base64 text"
    if hasattr(value, "isoformat"):
        return "text: value.isoformat()"
    if isinstance(value, set | frozenset):
        return "a list"
    return (
        "str(value)" if kind in ("Decimal", "UUID", "Fraction") else "text, numbers, lists, dicts"
    )


def _lossy(path: str, value: object, why: str, advice: str) -> NoReturn:
    raise LossyValueError(
        f"{path}: {why}, so it would not reach the worker unchanged; nothing was sent. Send it as "
        f"{advice}.",
        column=path,
        row=None,
        value=_shown(value),
    )


def _shown(value: object) -> str:
    if isinstance(value, int) and abs(value) >= 10**_SHOWN:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return shorten(text, _SHOWN)


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def _plain(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        number = value.number_value
        whole = number.is_integer() and abs(number) <= limits.EXACT_INTEGER_MAX
        return int(number) if whole else number
    if kind == "bool_value":
        return value.bool_value
    if kind == "struct_value":
        return from_struct(value.struct_value)
    if kind == "list_value":
        return from_list_value(value.list_value)
    return None
