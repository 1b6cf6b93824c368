"""What SQLite's errors mean for those who asked, and what the log says about them: once each."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

from spooled_pipelines.server.errors import (
    CorruptStoreError,
    DiskFullError,
    ReadOnlyStoreError,
    RefusedError,
    StoreFaultError,
)

_log = logging.getLogger(__name__)
# By what SQLite says: Python tells its error codes only from 3.11 on.
_FAULTS: tuple[tuple[str, type[StoreFaultError]], ...] = (
    ("disk is full", DiskFullError),
    ("readonly database", ReadOnlyStoreError),
    ("malformed", CorruptStoreError),
    ("not a database", CorruptStoreError),
    ("disk I/O error", StoreFaultError),
    ("unable to open database file", StoreFaultError),
    ("database is locked", StoreFaultError),
)


def fault_of(error: Exception) -> StoreFaultError | None:
    """What is wrong with the file; None where the file is fine."""
    if not isinstance(error, sqlite3.Error):
        return None
    text = str(error)
    return next((kind(text) for mark, kind in _FAULTS if mark in text), None)


class FaultLog:
    """Says in the log, with the file's name, when the file fails and when it works again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: str | None = None

    def refusal(self, error: sqlite3.Error) -> RefusedError:
        """What to tell whoever asked."""
        refusal = fault_of(error) or RefusedError(
            "INTERNAL", f"the store could not commit: {error}"
        )
        # A busy server would fill what is left of the disk with the same line.
        if refusal.message != self._last:
            self._last = refusal.message
            _log.error("%s: %s (%s)", self._path, refusal.message, error)
        return refusal

    def works(self) -> None:
        """Something was committed."""
        if self._last is not None:
            self._last = None
            _log.warning("%s: the store takes writes again", self._path)
