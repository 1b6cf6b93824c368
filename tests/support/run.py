"""What all processes of one run of tests share: a folder, which goes when the run ends."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

_VARIABLE = "TESTS_RUN_FOLDER"


def begin() -> None:
    """Make the folder; what is started from now on knows it."""
    made = Path(tempfile.mkdtemp(prefix="spooled-tests-"))
    # PostgreSQL runs as another user where the tests run as root.
    made.chmod(0o755)
    (made / "owner").write_text(str(os.getpid()))
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
    shutil.rmtree(os.environ.pop(_VARIABLE), ignore_errors=True)
