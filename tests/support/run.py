"""What all processes of one run of tests share: a folder, which goes when the run ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import IO

import psutil

_VARIABLE = "TESTS_RUN_FOLDER"
_PREFIX = "spooled-tests-"
_locks: list[IO[str]] = []


def begin() -> None:
    """Make the folder; what is started from now on knows it."""
    _remove_abandoned()
    made = Path(tempfile.mkdtemp(prefix=_PREFIX))
    # PostgreSQL runs as another user where the tests run as root.
    made.chmod(0o755)
    _lock(made)
    os.environ[_VARIABLE] = str(made)
    # Where it is set, each process of each run compiles all of the tests.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def folder() -> Path:
    """Return the folder of the run that this process belongs to."""
    assert _VARIABLE in os.environ, f"{_VARIABLE} is not set: this is not a run of tests"
    return Path(os.environ[_VARIABLE])


def owner() -> int:
    """Return the process whose end is the end of the run."""
    return int((folder() / "owner").read_text())


def end() -> None:
    """Remove the folder."""
    while _locks:
        _locks.pop().close()
    shutil.rmtree(os.environ.pop(_VARIABLE), ignore_errors=True)


def _lock(made: Path) -> None:
    """Say who owns the folder, in a file that is locked for as long as the owner lives."""
    being_written = (made / "owner~").open("w")
    fcntl.flock(being_written, fcntl.LOCK_EX)
    being_written.write(str(os.getpid()))
    being_written.flush()
    (made / "owner~").rename(made / "owner")
    _locks.append(being_written)


def _remove_abandoned() -> None:
    """Remove the folders of runs that were killed; one with a database can have gigabytes."""
    for owner in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/owner"):
        # Where it is locked, or another user's, it is left.
        with contextlib.suppress(OSError, ValueError), owner.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not psutil.pid_exists(int(file.read())):
                shutil.rmtree(owner.parent, ignore_errors=True)
