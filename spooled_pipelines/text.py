"""Text for people: shortened so that a message stays readable."""

from __future__ import annotations


def shorten(text: str, length: int) -> str:
    """Return `text`, cut to `length` characters that end in an ellipsis if it is longer."""
    return text if len(text) <= length else text[: length - 1] + "…"


def shown(value: object, length: int = 80) -> str:
    """Return the `repr` of a value, shortened."""
    return shorten(repr(value), length)


def one_line(text: object, length: int = 200) -> str:
    """Return a text, or what an error says, in one line, shortened."""
    return shorten(" ".join(str(text).split()), length)
