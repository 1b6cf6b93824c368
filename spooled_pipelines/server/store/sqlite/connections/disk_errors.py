"""What SQLite's errors mean for those who asked, and what the log says about them: once each."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from spooled_pipelines.server.core.errors import (
    CorruptStoreError,
    DiskFullError,
    LockedStoreError,
    ReadOnlyStoreError,
    RefusedError,
    StoreFaultError,
)

_log = logging.getLogger(__name__)
_SAID_SECONDS = 60.0
# By what SQLite says: Python tells its error codes only from 3.11 on.
_FAULTS: tuple[tuple[str, type[StoreFaultError]], ...] = (
    ("disk is full", DiskFullError),
    ("readonly database", ReadOnlyStoreError),
    ("malformed", CorruptStoreError),
    ("not a database", CorruptStoreError),
    ("disk I/O error", StoreFaultError),
    ("unable to open database file", StoreFaultError),
    ("database is locked", LockedStoreError),
)


def fault_of(error: Exception) -> StoreFaultError | None:
    """Return what is wrong with the file; None where the file is fine."""
    if not isinstance(error, sqlite3.Error):
        return None
    text = str(error)
    return next((kind(text) for mark, kind in _FAULTS if mark in text), None)


def explained(error: Exception, path: Path) -> str:
    """Return what SQLite said; of a locked file, who else has it open."""
    if not isinstance(fault_of(error), LockedStoreError):
        return str(error)
    return f"{error}; open in {', '.join(_others_at(path)) or 'a process of another user'}"


def _others_at(path: Path) -> list[str]:
    """Return the other processes that have the file open, as far as this user may know."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(process.name) == os.getpid():
                continue
            if any(link.samefile(path) for link in (process / "fd").iterdir() if link.exists()):
                name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                found.append(f"process {process.name} ({name})")
    return found


class FaultLog:
    """Says in the log, with the file's name, when the file fails and when it works again.

    A disk that is nearly full takes the small writes and none of the large ones, many times a
    second: what comes and goes is said once a minute.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._last: str | None = None
        self._said: str | None = None
        self._said_at = 0.0
        # Whether the fault that there is now is in the log.
        self._told = False

    def refusal(self, error: sqlite3.Error | StoreFaultError) -> RefusedError:
        """Return what to tell the caller."""
        if isinstance(error, StoreFaultError):
            refusal: RefusedError = error
        else:
            internal = RefusedError("INTERNAL", f"the store could not commit: {error}")
            refusal = fault_of(error) or internal
        # A busy server would fill what is left of the disk with the same line.
        if refusal.message != self._last:
            self._last, self._told = refusal.message, False
        now = self._clock()
        again = refusal.message == self._said and now - self._said_at < _SAID_SECONDS
        if not self._told and not again:
            self._said, self._said_at, self._told = refusal.message, now, True
            _log.error("%s: %s (%s)", self._path, refusal.message, explained(error, self._path))
        return refusal

    def works(self) -> None:
        """Note that something was committed."""
        if self._last is not None:
            self._last = None
            if not self._told:
                return
            self._told = False
            _log.warning("%s: the store takes writes again", self._path)
