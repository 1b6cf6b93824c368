"""The command in this process: what a user gets, without a process for each call."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import sys
import unittest.mock
from dataclasses import dataclass
from pathlib import Path

from spooled_pipelines.cli.app import run
from tests.support import forked


@dataclass(frozen=True)
class Done:
    code: int
    out: bytes
    err: bytes

    @property
    def stdout(self) -> str:
        return self.out.decode()

    @property
    def stderr(self) -> str:
        return self.err.decode()


def command(*arguments: str, stdin: bytes = b"") -> Done:
    """Run it to its end. An exception that would be a traceback is one here."""
    given, out, err = _Bytes(stdin), _Bytes(), _Bytes()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(_text(out)))
        stack.enter_context(contextlib.redirect_stderr(_text(err)))
        stack.enter_context(unittest.mock.patch.object(sys, "stdin", _text(given)))
        code = run(arguments)
    return Done(code, out.getvalue(), err.getvalue())


def on_terminal(command: list[str], *, env: dict[str, str], cwd: Path | None = None) -> str:
    """All that a process writes on a real terminal; it has to end well."""
    ours, theirs = pty.openpty()
    process = forked.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", **env},
        cwd=cwd,
    )
    os.close(theirs)
    shown = bytearray()
    try:
        while chunk := os.read(ours, 65_536):
            shown += chunk
    except OSError:
        # How Linux says that the other end of a terminal is closed.
        pass
    finally:
        os.close(ours)
    assert process.wait(30) == 0, shown
    return shown.decode()


def _text(buffer: io.BytesIO) -> io.TextIOWrapper:
    """A stream with bytes below it, as a process has."""
    return io.TextIOWrapper(buffer, encoding="utf-8", write_through=True)


class _Bytes(io.BytesIO):
    """What is below a stream: still to be read when the stream is gone, which would close it."""

    def close(self) -> None:
        pass
