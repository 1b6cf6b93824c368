"""A table from standard input, for what reads files."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from spooled_pipelines.cli.exit_codes import UsageError
from spooled_pipelines.errors import SpooledError

STDIN = "-"
_NAMED = "standard input"
_GZIP = b"\x1f\x8b"
_HEAD = 4096


class InputFormat(str, Enum):
    """What standard input holds; told from its first bytes if not given."""

    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"
    ARROW = "arrow"


@contextlib.contextmanager
def readable(file: str, given: InputFormat | None) -> Iterator[str]:
    """The path to read instead of ``-``; any other comes back as it is.

    Nothing is sent before the last row is checked, so that what cannot be read twice is kept in a
    temporary file meanwhile, which only this user can read.
    """
    if file != STDIN:
        if given is not None:
            raise UsageError(f"--format says what standard input (-) holds, and {file} has a name")
        yield file
        return
    import shutil
    import tempfile

    stream = sys.stdin.buffer
    head = stream.read(_HEAD)
    if not head:
        raise UsageError("standard input is empty: nothing was read, so nothing was sent")
    with tempfile.TemporaryDirectory(prefix="spooled-") as folder:
        path = Path(folder) / f"stdin{_suffix(head, given)}"
        with path.open("wb") as copy:
            copy.write(head)
            shutil.copyfileobj(stream, copy, 1 << 20)
        try:
            yield str(path)
        except SpooledError as error:
            # People did not name that file, and it is gone when they read this.
            error.message = error.message.replace(repr(str(path)), _NAMED).replace(
                str(path), _NAMED
            )
            error.args = (error.message,)
            raise


def _suffix(head: bytes, given: InputFormat | None) -> str:
    packed = ""
    if head.startswith(_GZIP):
        packed, head = ".gz", _unpacked(head)
    kind = given or _sniffed(head)
    return f".{kind.value}{packed}"


def _sniffed(head: bytes) -> InputFormat:
    if head.startswith(b"PAR1"):
        return InputFormat.PARQUET
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return InputFormat.ARROW
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return InputFormat.JSONL if text.startswith((b"{", b"[")) else InputFormat.CSV


def _unpacked(head: bytes) -> bytes:
    """As much of its beginning as is there."""
    import gzip
    import zlib

    source: BinaryIO = io.BytesIO(head)
    with contextlib.suppress(EOFError, OSError, zlib.error), gzip.open(source) as unpacked:
        return unpacked.read(1)
    return b""
