"""Record batches put aside in order and read again: small ones in memory, large ones in a file.

The file has no name and is readable by its owner alone: it holds payloads, and is gone with the
process, however that ends.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from threading import Lock
from typing import Any

import pyarrow as pa

# What stays in memory at most; the same for a small table and a huge one.
MEMORY_BYTES = 8 << 20


class Spool:
    """Write batches of one schema, then read them as often as wanted; close it."""

    def __init__(self, schema: Any, memory_bytes: int = MEMORY_BYTES) -> None:
        self.schema = schema
        self.rows = 0
        # Lives as long as this object: closed by close().
        self._file = tempfile.SpooledTemporaryFile(max_size=memory_bytes)  # noqa: SIM115
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._file, mode="w"), schema)
        self._writing = True
        self._reading = Lock()

    def write(self, batch: Any) -> None:
        """Put one record batch behind the others; not any more once it was read."""
        self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def batches(self) -> Iterator[Any]:
        """Every batch from the start, one in memory at a time; for any number of readers."""
        self._finish()
        place = pa.PythonFile(_Place(self._file, self._reading), mode="r")
        with pa.ipc.open_stream(place) as reader:
            yield from reader

    def table(self) -> Any:
        """All of it in memory."""
        return pa.Table.from_batches(list(self.batches()), self.schema)

    def close(self) -> None:
        self._finish()
        self._file.close()

    def __del__(self) -> None:
        # A batch keeps its ledger as long as anyone holds the batch; nobody announces the end.
        if hasattr(self, "_writing"):
            self.close()

    def _finish(self) -> None:
        if self._writing:
            self._writing = False
            self._writer.close()


class _Place:
    """A reader's own place in a file that others read as well."""

    closed = False

    def __init__(self, file: Any, lock: Lock) -> None:
        self._file = file
        self._lock = lock
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        with self._lock:
            self._file.seek(self._at)
            found: bytes = self._file.read(size)
        self._at += len(found)
        return found

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        """The file is the spool's."""
