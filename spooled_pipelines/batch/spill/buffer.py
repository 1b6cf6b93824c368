"""Data put aside on the disk, so that memory stays flat however long a table is.

The files have no name and are readable by their owner alone: they hold payloads, and are gone with
the process, however that ends.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from threading import Lock
from typing import IO

import pyarrow as pa

# What stays in memory at most; the same for a small table and a huge one.
MEMORY_BYTES = 8 << 20


class SpillBuffer:
    """Record batches of one schema, small ones in memory, large ones in a file.

    Write them, then read them in order as often as wanted; close the buffer.
    """

    def __init__(self, schema: pa.Schema, memory_bytes: int = MEMORY_BYTES) -> None:
        self.schema = schema
        self.rows = 0
        # Lives as long as this object: closed by close().
        self._file = tempfile.SpooledTemporaryFile(max_size=memory_bytes)  # noqa: SIM115
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._file, mode="w"), schema)
        self._writing = True
        self._reading = Lock()

    def write(self, record_batch: pa.RecordBatch) -> None:
        """Append a record batch; not possible after the first read."""
        with _naming_the_folder():
            self._writer.write_batch(record_batch)
        self.rows += record_batch.num_rows

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield every record batch, one in memory at a time; for any number of readers."""
        self._finish()
        cursor = pa.PythonFile(_Cursor(self._file, self._reading), mode="r")
        with pa.ipc.open_stream(cursor) as reader:
            yield from reader

    def column(self, name: str) -> Iterator[pa.Array]:
        """Yield one column of every record batch."""
        return (record_batch.column(name) for record_batch in self.batches())

    def table(self) -> pa.Table:
        """Return all of it in memory."""
        return pa.Table.from_batches(list(self.batches()), self.schema)

    def close(self) -> None:
        """Delete the data."""
        self._finish()
        self._file.close()

    def __del__(self) -> None:
        # A batch keeps its ledger for as long as it is referenced; nothing announces the end, which
        # may be that of the interpreter, when the names of this module are gone.
        if hasattr(self, "_file"):
            self._file.close()

    def _finish(self) -> None:
        if self._writing:
            self._writing = False
            with _naming_the_folder():
                self._writer.close()


@contextlib.contextmanager
def _naming_the_folder() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"rows cannot be put aside in {tempfile.gettempdir()} ({error.strerror}); set "
            "TMPDIR to a folder that has space",
        ) from error


class _Cursor:
    """A reader's own position in a file that has other readers."""

    closed = False

    def __init__(self, file: IO[bytes], lock: Lock) -> None:
        self._file = file
        self._lock = lock
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        with self._lock:
            self._file.seek(self._position)
            data = self._file.read(size)
        self._position += len(data)
        return data

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        """Leave the file open: it belongs to the buffer."""
