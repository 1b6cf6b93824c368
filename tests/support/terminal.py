"""A terminal with a shell in it, 80 columns wide, into which a test pastes as a user does."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

_WAIT_SECONDS = 60.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PROMPT = "ready>"


class Terminal:
    """A shell that names no server, on a terminal of its own; a context manager."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SPOOLED")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        size = {"COLUMNS": "80", "LINES": "24", "TERM": "xterm-256color"}
        self._ours, theirs = pty.openpty()
        self._shell = subprocess.Popen(
            ["setsid", "--ctty", "bash", "--norc", "--noprofile", "-i"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env={**kept, **size, "PATH": path, "PS1": _PROMPT, **(environment or {})},
        )
        os.close(theirs)
        self.shown = ""

    def paste(self, text: str) -> None:
        """Write the lines as if they were pasted, the last one with Enter."""
        self.shown = ""
        os.write(self._ours, text.rstrip("\n").encode() + b"\n")

    def see(self, pattern: str, seconds: float = _WAIT_SECONDS) -> str:
        """Read on until what was shown since the last paste matches; return all of it."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.shown):
            if not select.select([self._ours], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise AssertionError(f"no {pattern!r} in:\n{self.shown}")
            self.shown += _ESCAPES.sub("", os.read(self._ours, 65_536).decode(errors="replace"))
        return self.shown

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self._ours, b"\x03")

    def run(self, text: str) -> str:
        """Paste the lines, wait for the prompt after the last, and return what they showed."""
        self.paste(text + "\necho $((40+2))-ended")
        return self.see("42-ended").partition("42-ended")[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What runs in it is of its session, which hears that the terminal is gone.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGHUP)
        os.close(self._ours)
        self._shell.wait(30)
