"""Errors of readers, as one error that names what could not be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from spooled_pipelines.errors import InvalidArgumentError, SourceError, SpooledError
from spooled_pipelines.text import one_line

# How files begin that are no text; in other encodings than UTF-8 they could be read as one.
_BINARY = {
    b"\x1f\x8b\x08": "compressed with gzip: name it .gz",
    b"BZh91AY&SY": "compressed with bzip2: name it .bz2",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: name it .zst",
    b"\x04\x22\x4d\x18": "compressed with lz4: name it .lz4",
    b"PK\x03\x04": "a ZIP archive, as spreadsheets are too: unpack it, or save it as text",
    b"PAR1\x15": "a Parquet file: name it .parquet",
    b"ARROW1\0": "an Arrow file: name it .arrow",
}


def refuse_binary(start: bytes, name: str) -> None:
    """Raise InvalidArgumentError where a file that should be text begins like one that is not."""
    for mark, what in _BINARY.items():
        if start.startswith(mark):
            raise InvalidArgumentError(f"the file {name!r} is {what}. Nothing was sent.")


@contextmanager
def wrap_read_errors(what: str, row: int | None = None) -> Iterator[None]:
    """Name `what`, and the row after which reading failed.

    Raises:
        SourceError: the system or the network failed; another try may succeed.
        InvalidArgumentError: what is there is not what it should be.
    """
    try:
        yield
    except OSError as error:
        raise SourceError(_message(what, row, error)) from error
    except (pa.ArrowException, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidArgumentError(_message(what, row, error)) from error
    except SpooledError:
        raise
    except Exception as error:
        # The caller's own iterator has errors of its own; they are not hidden behind one of ours.
        if hasattr(error, "add_note"):
            error.add_note(_message(what, row, error))
        raise


def read_error(what: str, row: int | None, error: Exception) -> SourceError:
    """Return the error for a failure of an unknown kind, such as a database driver's."""
    return SourceError(_message(what, row, error))


def _message(what: str, row: int | None, error: Exception) -> str:
    after = f" after row {row - 1}" if row else ""
    said = one_line(error, 300) or type(error).__name__
    return f"{what} cannot be read{after}: {said}. Nothing was sent."
