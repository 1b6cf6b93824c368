"""Errors that differ in numbers, ids and quoted texts alone are of one shape."""

from __future__ import annotations

import re

# What tells one job from another in the text of an error, in the order in which it is looked for.
_PARTS = re.compile(
    r"""
    (?P<code>\b(?:HTTP(?:/[\d.]+)?|status|code|errno|exit|signal|SQLSTATE)[ =:(]*\d{1,5}\b)
    | (?P<quoted>(?<!\w)(?:'[^'\n]*'|"[^"\n]*"|`[^`\n]*`)(?!\w))
    | (?P<uuid>\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b)
    | (?P<id>\b(?=\w*\d)(?=\w*[A-Za-z])\w{9,}\b | \b(?-i:[A-Z]{1,4})_?\d{2,}\b)
    | (?P<hex>\b0x[0-9a-fA-F]+\b)
    | (?P<number>(?<!\w)\d+(?:[.,:]\d+)*)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LEFT_OUT = "…"


def error_shape(error: str) -> str:
    """Return the first line of an error without numbers, ids and quoted texts.

    Codes stay: `HTTP 503`, `status=404`, `errno 28`, `exit code 137`.
    """
    first = error.strip().partition("\n")[0].rstrip()
    return _PARTS.sub(lambda part: part[0] if part["code"] else _LEFT_OUT, first)


def text_in_all(shape: str) -> str:
    """Return the longest text that every error of a shape has in it."""
    return max(shape.split(_LEFT_OUT), key=len).strip()
