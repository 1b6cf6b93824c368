"""JSON read without a change of its numbers: what a double does not hold stays as written.

Python's own decoder makes 2e16 of `19999999999999999.99`, and nobody hears of it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.rpc.struct import unique_names

# So many characters hold at most 15 digits, which a double always keeps.
_SURELY_EXACT_CHARACTERS = 15


# The only name of an object that stands for a decimal, in JSON that is made and read here alone.
_DECIMAL = f"decimal {secrets.token_hex(8)}"


class InexactNumber(Decimal):
    """A number of a JSON text that no double holds exactly as it is written."""


class DecimalText(str):
    """The text of a decimal; equal decimals have equal keys, however many zeros they end with."""

    __slots__ = ()


def mark_decimal(text: str) -> dict[str, str]:
    """Return what says in JSON that a text is a decimal's, until `decode` reads it."""
    return {_DECIMAL: text}


def decimals_in(texts: pa.StringArray) -> pa.BooleanArray:
    """Return true for each JSON text that has a marked decimal."""
    return pc.match_substring(texts, _DECIMAL)


def has_decimals(texts: pa.StringArray) -> bool:
    """Return whether one of the JSON texts has a marked decimal."""
    return bool(pc.any(decimals_in(texts), min_count=0).as_py())


def unmark_decimals(texts: pa.StringArray) -> pa.StringArray:
    """Return JSON texts whose decimals are plain texts, for everybody else."""
    return pc.replace_substring_regex(texts, rf'\{{"{_DECIMAL}":("[^"]*")\}}', r"\1")


def trim_decimal(text: str) -> str:
    """Return a decimal's digits without zeros at the end of its fraction."""
    trimmed = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if trimmed == "-0" else trimmed


def parse_fraction(text: str) -> float | InexactNumber:
    """Return the number that a JSON text with a point or an exponent says, exactly."""
    number = float(text)
    if len(text) <= _SURELY_EXACT_CHARACTERS and "e" not in text and "E" not in text:
        return number
    return number if Decimal(text) == Decimal(repr(number)) else InexactNumber(text)


def _decimal_or_object(pairs: list[tuple[str, Any]]) -> DecimalText | dict[str, Any]:
    if len(pairs) == 1 and pairs[0][0] == _DECIMAL:
        return DecimalText(pairs[0][1])
    return unique_names(pairs)


DECODER = json.JSONDecoder(object_pairs_hook=unique_names, parse_float=parse_fraction)
_MARKED_DECODER = json.JSONDecoder(object_pairs_hook=_decimal_or_object, parse_float=parse_fraction)


def encode_with_exact_numbers(value: object) -> str:
    """Return the JSON text of a value that may hold inexact numbers, each with all its digits."""
    try:
        return _encode(value)
    except TypeError:
        # Python's encoder knows no decimals.
        return _encode_slowly(value)


def _encode_slowly(value: object) -> str:
    if isinstance(value, InexactNumber):
        return str(value)
    if isinstance(value, dict):
        fields = (f"{_encode(name)}:{_encode_slowly(inner)}" for name, inner in value.items())
        return "{" + ",".join(fields) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_encode_slowly, value)) + "]"
    return _encode(value)


# What a decoder reads a value with, without its care for spaces around it.
_scan: Callable[[str, int], tuple[Any, int]] = vars(_MARKED_DECODER)["scan_once"]
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def decode(text: str) -> Any:
    """Return the value of a JSON text, which may have marked decimals.

    Raises:
        ValueError, RecursionError: it is not JSON.
    """
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        end = -1
    # What has spaces around it, or is no JSON, is left to the decoder.
    return value if end == len(text) else _MARKED_DECODER.decode(text)
