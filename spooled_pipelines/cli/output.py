"""How commands print: JSON for programs, rows for people, progress on stderr."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

# To the line's begin, and away with what it says.
_CLEAR = "\r\x1b[K"


def print_json(value: object) -> None:
    """One line of JSON on stdout."""
    print(json.dumps(value, default=_plain, ensure_ascii=False), flush=True)


@contextmanager
def for_a_reader() -> Iterator[None]:
    """Writing to stdout ends quietly when its reader has enough, as `| head` does."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Whatever is still buffered must not fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def print_pairs(pairs: Mapping[str, object]) -> None:
    """Names and values below each other, numbers with thousands apart."""
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        text = (
            f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        )
        print(f"{name:<{width}}  {text}")


def print_one(pairs: Mapping[str, object], as_json: bool) -> None:
    """The same for programs or for people."""
    if as_json:
        print_json(pairs)
    else:
        print_pairs(pairs)


class LiveLine:
    """A line that is written over on a terminal, and now and then a plain line elsewhere.

    The first and the last state are always shown.
    """

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._is_terminal = self.live = self._stream.isatty()
        # Log lines come from any thread; and from a signal's handler while this thread has it.
        self._lock = threading.RLock()
        self._pause = 0.1 if self.live else 2.0
        self._shown_at = -math.inf
        self._shown = self._latest = ""

    def show(self, text: str) -> None:
        """Show the state, unless the last one was shown a moment ago."""
        self._latest = text
        if time.monotonic() - self._shown_at >= self._pause:
            with self._lock:
                self._write(text)

    def _write(self, text: str) -> None:
        if text == self._shown:
            return
        self._shown = text
        self._shown_at = time.monotonic()
        if self.live:
            self._stream.write(_CLEAR + text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Room for a line that something else writes meanwhile; the state stands below it again."""
        with self._lock:
            if self._is_terminal:
                self._stream.write(_CLEAR)
                self._stream.flush()
            yield
            if self.live and self._shown:
                self._stream.write(self._shown)
                self._stream.flush()

    def end(self) -> None:
        """Leave the last state standing."""
        with self._lock:
            self._write(self._latest)
            if self.live and self._shown:
                self._stream.write("\n")
                self._stream.flush()
            self._shown = self._latest = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
