"""JSON files as rows: lines of objects, or one array of objects, read piece by piece.

Not by Arrow's reader: that takes text that looks like a time for a time.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

from spooled_pipelines.errors import InvalidArgumentError

_READ_BYTES = 1 << 20
# An object that is longer cannot be a job by far; more is not read to find an end that is missing.
_OBJECT_CHARACTERS_MAX = 32 << 20
_SPACE = " \t\r\n"


def rows(open_stream: Any, name: str) -> Iterator[dict[str, Any]]:
    """The objects of a file; `open_stream()` gives its bytes from front to back.

    Raises:
        InvalidArgumentError: a line or an item is no JSON object; it says which.
    """
    with open_stream() as stream:
        start = stream.read(1024).removeprefix(codecs.BOM_UTF8).lstrip()
    # Opened once more: what is compressed cannot be wound back.
    with open_stream() as stream:
        yield from (_items if start.startswith(b"[") else _lines)(stream, name)


def _lines(stream: Any, name: str) -> Iterator[dict[str, Any]]:
    for number, whole in enumerate(_split(stream), start=1):
        line = whole.removeprefix(codecs.BOM_UTF8) if number == 1 else whole
        if not line.strip():
            continue
        where = f"line {number} of {name!r}"
        try:
            value = _DECODER.decode(line.decode())
        except (ValueError, RecursionError) as error:
            # A JSONDecodeError would show where it is in the line only.
            raise _not_json(where, error) from None
        if not isinstance(value, dict):
            raise InvalidArgumentError(
                f"{where} is not a JSON object, and each line has to be one. Nothing was sent."
            )
        yield value


def _split(stream: Any) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(_READ_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    yield rest


def _items(stream: Any, name: str) -> Iterator[dict[str, Any]]:
    text = _Text(stream)
    text.take("[")
    number = 0
    if text.next() == "]":
        text.take("]")
        _refuse_more(text, name)
        return
    while True:
        where = f"item {number} of {name!r}"
        value = _item(text, where)
        if not isinstance(value, dict):
            raise InvalidArgumentError(
                f"{where} is not a JSON object, and each item has to be one. Nothing was sent."
            )
        yield value
        number += 1
        if not text.take(","):
            break
    if not text.take("]"):
        raise InvalidArgumentError(
            f"the array in {name!r} is not closed behind item {number - 1}. Nothing was sent."
        )
    _refuse_more(text, name)


def _refuse_more(text: _Text, name: str) -> None:
    if text.next():
        raise InvalidArgumentError(
            f"{name!r} goes on behind the end of its array, so it is not JSON. Nothing was sent."
        )


def _item(text: _Text, where: str) -> Any:
    text.next()
    wanted = _READ_BYTES
    while True:
        try:
            value, text.at = _DECODER.raw_decode(text.buffer, text.at)
        except (ValueError, RecursionError) as error:
            # The end of the item may not be there yet.
            unfinished = isinstance(error, json.JSONDecodeError)
            there = len(text.buffer) - text.at
            if not unfinished or there > _OBJECT_CHARACTERS_MAX or not text.more(wanted):
                raise _not_json(where, error) from None
            wanted *= 2
            continue
        return value


class _Text:
    """A stream's text from where we are in it on."""

    def __init__(self, stream: Any) -> None:
        self.buffer = ""
        self.at = 0
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()

    def next(self) -> str:
        """The next character that is no space, which is where we are then; empty at the end."""
        while True:
            while self.at < len(self.buffer):
                if self.buffer[self.at] not in _SPACE:
                    return self.buffer[self.at]
                self.at += 1
            if not self.more(_READ_BYTES):
                return ""

    def take(self, character: str) -> bool:
        """Go behind this character, if it is the next one."""
        if self.next() != character:
            return False
        self.at += 1
        return True

    def more(self, wanted: int) -> bool:
        """Read on, and forget what is behind us; False at the end."""
        block = self._stream.read(wanted)
        self.buffer = self.buffer[self.at :] + self._decoder.decode(block, final=not block)
        self.at = 0
        return bool(block)


def _not_json(where: str, error: Exception) -> InvalidArgumentError:
    said = getattr(error, "msg", None) or str(error).split(":")[0]
    return InvalidArgumentError(f"{where} is not JSON ({said}). Nothing was sent.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        # Of two values under one name one would be dropped, and nobody would know.
        raise ValueError("an object has one name twice")
    return made


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
