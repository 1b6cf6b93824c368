"""A table on standard input, put into a file."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from spooled_pipelines.cli.exit_codes import UsageError
from spooled_pipelines.errors import SpooledError

STDIN = "-"
_NAME = "standard input"
_GZIP = b"\x1f\x8b"
_HEAD = 4096


# The formats of standard input; detected from its first bytes if not given.
InputFormat: TypeAlias = Literal["parquet", "csv", "jsonl", "arrow"]


@contextlib.contextmanager
def stdin_as_file(file: str, file_format: InputFormat | None) -> Iterator[str]:
    """Copy standard input to a file and yield its path, if the file is ``-``.

    No row is sent before the last one has been checked, so the data is read twice. The file is
    temporary, and only this user can read it.
    """
    if file != STDIN:
        if file_format is not None:
            raise UsageError(f"--format is the format of standard input (-), got {file}")
        yield file
        return
    import shutil
    import tempfile

    stream = sys.stdin.buffer
    head = stream.read(_HEAD)
    if not head:
        raise UsageError("standard input is empty, so nothing was sent")
    with tempfile.TemporaryDirectory(prefix="spooled-") as folder:
        path = Path(folder) / f"stdin{_suffix(head, file_format)}"
        with path.open("wb") as copy:
            copy.write(head)
            shutil.copyfileobj(stream, copy, 1 << 20)
        try:
            yield str(path)
        except SpooledError as error:
            # The user did not name that file, and it no longer exists.
            named = error.problem.replace(repr(str(path)), _NAME)
            error.problem = named.replace(str(path), _NAME)
            raise


def _suffix(head: bytes, file_format: InputFormat | None) -> str:
    packed = ""
    if head.startswith(_GZIP):
        packed, head = ".gz", _unpacked(head)
    return f".{file_format or _detected(head)}{packed}"


def _detected(head: bytes) -> InputFormat:
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return "jsonl" if text.startswith((b"{", b"[")) else "csv"


def _unpacked(head: bytes) -> bytes:
    """Return the first unpacked byte, or nothing if it cannot be unpacked."""
    import gzip
    import zlib

    source: BinaryIO = io.BytesIO(head)
    with contextlib.suppress(EOFError, OSError, zlib.error), gzip.open(source) as unpacked:
        return unpacked.read(1)
    return b""
