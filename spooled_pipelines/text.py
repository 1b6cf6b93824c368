"""Text for people: shortened so that a message stays readable."""

from __future__ import annotations

import re

# Control characters, and those that change the order or width of text: shown, not obeyed.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def plain(text: str) -> str:
    """Return text from outside with its invisible characters made visible."""
    return _HIDDEN.sub(_visible, text)


def plain_json(text: str) -> str:
    """Return JSON that says the same and holds no invisible characters."""
    return _HIDDEN.sub(_json_escape, text)


def _visible(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"


def _json_escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def shorten(text: str, length: int) -> str:
    """Return `text`, cut to `length` characters that end in an ellipsis if it is longer."""
    return text if len(text) <= length else text[: length - 1] + "…"


def shown(value: object, length: int = 80) -> str:
    """Return the `repr` of a value, shortened."""
    return shorten(repr(value), length)


def percent(part: int, whole: int) -> str:
    """Return a share, such as ``"12.5%"``; 100 % is all, and nothing less."""
    return f"{part / whole:.0%}" if part == whole else f"{min(part / whole, 0.999):.1%}"


def one_line(text: object, length: int = 200) -> str:
    """Return a text, or what an error says, in one line, shortened."""
    return shorten(" ".join(str(text).split()), length)
