"""Cut a text file into pieces of whole records.

A line break inside quotes belongs to its field, wherever the file is cut into pieces to be read:
so the pieces are cut here, and each is parsed by itself. (Arrow's own reader loses a byte of a line
break in quotes that lies across two of its blocks, apache/arrow#51368.)
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import IO

from spooled_pipelines.batch.source.read_errors import refuse_binary
from spooled_pipelines.errors import InvalidArgumentError

READ_BYTES = 1 << 20
# A record that is longer cannot be a job; what follows a quote that is never closed is not read.
_RECORD_BYTES_MAX = 64 << 20
# The longer one first, which begins with the shorter.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_BREAKS = re.compile(rb"(?:\r\n|\n|\r)+")


def utf8_blocks(stream: IO[bytes], encoding: str, name: str) -> Iterator[bytes]:
    """Yield a file's bytes as UTF-8, without a byte order mark.

    Raises:
        InvalidArgumentError: the file is not in this encoding; the message says in which line.
    """
    is_utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")
    decoder = codecs.getincrementaldecoder("utf-8-sig" if is_utf8 else encoding)()
    line = 1
    at_start = True
    while True:
        block = stream.read(READ_BYTES)
        if at_start:
            refuse_binary(block, name)
        mark = next((mark for mark in _MARKS if block.startswith(mark)), None)
        if at_start and is_utf8 and mark is not None:
            raise InvalidArgumentError(
                f"line 1 of {name!r} is {_MARKS[mark].upper()}, and the file is read as "
                f"{encoding}. Say its encoding, encoding={_MARKS[mark]!r}. Nothing was sent."
            )
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].count(b"\n")
            raise InvalidArgumentError(
                f"line {line} of {name!r} is not {encoding} (byte 0x{error.object[error.start]:02x}"
                "). Say its encoding, such as encoding='latin-1' or 'cp1252'. Nothing was sent."
            ) from None
        line += text.count("\n")
        if at_start:
            text = text.removeprefix("\ufeff")
            at_start = False
        if text:
            yield text.encode()
        if not block:
            return


class RecordCutter:
    """Finds where records end in bytes that begin with a record."""

    def __init__(self, separator: str, quote: str | None) -> None:
        self._quote = None if quote is None else quote.encode()
        self._field: re.Pattern[bytes] | None = None
        if quote is not None:
            mark = re.escape(quote.encode())
            before = rb"(?<=[" + re.escape(separator.encode()) + rb"\r\n]" + mark + rb")"
            # A quote opens a field only where a field begins; elsewhere it is a character like
            # others. The look behind comes second: a literal first is what `re` finds fast.
            inside = rb"[^" + mark + rb"]*(?:" + mark + mark + rb"[^" + mark + rb"]*)*"
            self._field = re.compile(mark + before + inside + rb"(?:" + mark + rb"|\Z)")

    def end_of_last(self, data: bytes) -> int:
        """Return the length of the whole records at the beginning of `data`; 0: there is none."""
        end = _last_break(data, len(data))
        for start, stop in reversed(self._quoted(data)):
            if stop <= end:
                break
            if start < end:
                end = _last_break(data, start)
        return end

    def open_quote(self, data: bytes) -> int | None:
        """Return where a quote is opened and not closed, or None."""
        quoted = self._quoted(data)
        return quoted[-1][0] if quoted and quoted[-1][1] > len(data) else None

    def record_ends(self, data: bytes) -> Iterator[int]:
        """Yield where each record ends, line break and blank lines after it included."""
        quoted = iter(self._quoted(data))
        start, stop = next(quoted, (len(data), len(data)))
        for match in _BREAKS.finditer(data):
            while stop <= match.start() < len(data):
                start, stop = next(quoted, (len(data), len(data)))
            if match.start() < start:
                yield match.end()
        if not data.endswith((b"\r", b"\n")):
            yield len(data)

    def _quoted(self, data: bytes) -> list[tuple[int, int]]:
        """Return where fields in quotes begin and end; one that is open ends after the data."""
        if self._field is None or self._quote is None or self._quote not in data:
            return []
        # The first field has no byte before it that would say so.
        after_break = b"\n" + data
        matches = self._field.finditer(after_break)
        spans = [(match.start() - 1, match.end() - 1) for match in matches]
        if spans and spans[-1][1] == len(data) and self._is_open(data[spans[-1][0] + 1 :]):
            spans[-1] = (spans[-1][0], len(data) + 1)
        return spans

    def _is_open(self, field: bytes) -> bool:
        """Return whether the quote before `field`, the rest of the data, is never closed."""
        return field.count(self._quote or b"") % 2 == 0


def _last_break(data: bytes, stop: int) -> int:
    """Return where the last line break before `stop` ends; 0: there is none.

    A carriage return at the very end may be half of a break.
    """
    return 1 + max(data.rfind(b"\n", 0, stop), data.rfind(b"\r", 0, min(stop, len(data) - 1)))


def line_breaks(data: bytes) -> int:
    """Return how many line breaks there are, of either kind."""
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")


def pieces(
    blocks: Iterator[bytes], cutter: RecordCutter, name: str, first_line: int = 1
) -> Iterator[tuple[int, bytes]]:
    """Yield (line, bytes): pieces of whole records, and the line in which each begins, from 1.

    Raises:
        InvalidArgumentError: a quote is opened and never closed.
    """
    rest = b""
    line = first_line
    for block in blocks:
        rest += block
        end = cutter.end_of_last(rest)
        if end:
            yield line, rest[:end]
            line += line_breaks(rest[:end])
            rest = rest[end:]
        elif len(rest) > _RECORD_BYTES_MAX:
            break
    opened = cutter.open_quote(rest)
    if opened is not None or len(rest) > _RECORD_BYTES_MAX:
        line += line_breaks(rest[: opened or 0])
        raise InvalidArgumentError(
            f"line {line} of {name!r} opens a quote that is not closed. Close it, or say which "
            "character quotes fields (quote=, None for none). Nothing was sent."
        )
    if rest:
        # Arrow takes a last line without its end for none, where it is alone.
        yield line, rest if rest.endswith((b"\r", b"\n")) else rest + b"\n"
