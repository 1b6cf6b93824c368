"""JSON files as rows: lines of objects, or one array of objects, read piece by piece.

Not by Arrow's reader, which takes text that looks like a time for a time, and not by `ijson`, which
keeps the second of two values under one name.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from typing import IO, Any

from spooled_pipelines.batch.source.read_errors import refuse_binary
from spooled_pipelines.batch.values.exact_json import DECODER
from spooled_pipelines.errors import InvalidArgumentError

_READ_BYTES = 1 << 20
# A longer object cannot be a job by far; more is not read to find an end that is missing.
_OBJECT_CHARACTERS_MAX = 32 << 20
_SPACE = " \t\r\n"


def read_objects(open_stream: Callable[[], IO[bytes]], name: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file; `open_stream()` gives its bytes from front to back.

    Raises:
        InvalidArgumentError: a line or an item is not a JSON object; it says which.
    """
    with open_stream() as stream:
        start = stream.read(1024).removeprefix(codecs.BOM_UTF8).lstrip()
    refuse_binary(start, name)
    # Opened once more: a compressed stream cannot be wound back.
    with open_stream() as stream:
        yield from (_read_array if start.startswith(b"[") else _read_lines)(stream, name)


def _read_lines(stream: IO[bytes], name: str) -> Iterator[dict[str, Any]]:
    for number, read in enumerate(_split_lines(stream), start=1):
        line = read.removeprefix(codecs.BOM_UTF8) if number == 1 else read
        if not line.strip():
            continue
        what = f"line {number} of {name!r}"
        try:
            value = DECODER.decode(line.decode())
        except (ValueError, RecursionError) as error:
            # A JSONDecodeError would show its position in the line only.
            raise _not_json(what, error) from None
        yield _check_object(value, what)


def _check_object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"{what} is not a JSON object. Nothing was sent.")
    return value


def _split_lines(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(_READ_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    yield rest


def _read_array(stream: IO[bytes], name: str) -> Iterator[dict[str, Any]]:
    text = _Text(stream)
    text.take("[")
    number = 0
    if not text.take("]"):
        while True:
            what = f"item {number} of {name!r}"
            yield _check_object(_read_item(text, what), what)
            number += 1
            if not text.take(","):
                break
        if not text.take("]"):
            raise InvalidArgumentError(
                f"the array in {name!r} is not closed after item {number - 1}. Nothing was sent."
            )
    if text.next():
        raise InvalidArgumentError(
            f"{name!r} goes on after the end of its array, so it is not JSON. Nothing was sent."
        )


def _read_item(text: _Text, what: str) -> object:
    text.next()
    wanted = _READ_BYTES
    while True:
        try:
            value, text.position = DECODER.raw_decode(text.buffer, text.position)
        except (ValueError, RecursionError) as error:
            # The end of the item may not have been read yet.
            unfinished = isinstance(error, json.JSONDecodeError)
            buffered = len(text.buffer) - text.position
            if not unfinished or buffered > _OBJECT_CHARACTERS_MAX or not text.read_on(wanted):
                raise _not_json(what, error) from None
            wanted *= 2
            continue
        return value


class _Text:
    """The text of a stream from the current position on."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.buffer = ""
        self.position = 0
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()

    def next(self) -> str:
        """Skip spaces and return the next character, without taking it; empty at the end."""
        while True:
            while self.position < len(self.buffer):
                if self.buffer[self.position] not in _SPACE:
                    return self.buffer[self.position]
                self.position += 1
            if not self.read_on(_READ_BYTES):
                return ""

    def take(self, character: str) -> bool:
        """Skip this character, if it is the next one."""
        if self.next() != character:
            return False
        self.position += 1
        return True

    def read_on(self, wanted: int) -> bool:
        """Read on, and forget the text before the position; False at the end."""
        block = self._stream.read(wanted)
        self.buffer = self.buffer[self.position :] + self._decoder.decode(block, final=not block)
        self.position = 0
        return bool(block)


def _not_json(what: str, error: Exception) -> InvalidArgumentError:
    said = getattr(error, "msg", None) or str(error).split(":")[0]
    return InvalidArgumentError(
        f"{what} is not JSON ({said}). A JSON file has an object in each line, or is one array of "
        "objects, in UTF-8. Nothing was sent."
    )
