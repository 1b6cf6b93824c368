"""JSON read without a change of its numbers: what a double does not hold stays as written.

Python's own decoder makes 2e16 of `19999999999999999.99`, and nobody hears of it.
"""

from __future__ import annotations

import json
from decimal import Decimal

from spooled_pipelines.rpc.struct import unique_names

# So many characters hold at most 15 digits, which a double always keeps.
_SURELY_EXACT_CHARACTERS = 15


class InexactNumber(Decimal):
    """A number of a JSON text that no double holds exactly as it is written."""


def parse_fraction(text: str) -> float | InexactNumber:
    """Return the number that a JSON text with a point or an exponent says, exactly."""
    number = float(text)
    if len(text) <= _SURELY_EXACT_CHARACTERS and "e" not in text and "E" not in text:
        return number
    return number if Decimal(text) == Decimal(repr(number)) else InexactNumber(text)


DECODER = json.JSONDecoder(object_pairs_hook=unique_names, parse_float=parse_fraction)


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


def _encode(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
