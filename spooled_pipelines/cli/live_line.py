"""A status line on standard error, which a command updates while it runs."""

from __future__ import annotations

import math
import shutil
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TextIO

from spooled_pipelines.text import plain, shorten

if TYPE_CHECKING:
    from typing_extensions import Self

# Printed before its own output by a process whose terminal another process draws a line on.
CLEAR_LINE = "\r\x1b[K"
# Elsewhere than on a terminal, a line is printed at most this often, and on one redrawn.
_PAUSE_SECONDS, _REDRAW_SECONDS = 2.0, 0.1


class LiveLine:
    """A line that is replaced in place on a terminal, and printed now and then elsewhere.

    The first and the last state are always shown. On a terminal, what is printed to standard error
    meanwhile appears above the line.

    Attributes:
        live: whether the line is replaced in place; False hides nothing, but prints.
    """

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self._latest = self._printed = ""
        self._printed_at = -math.inf
        self._drawing = threading.RLock()
        self._above: _Above | None = None
        self._timer: threading.Timer | None = None

    def show(self, text: str) -> None:
        """Show the state, unless another one was shown a moment ago: then in a moment."""
        with self._drawing:
            self._latest = plain(text)
            left = self._printed_at + self._pause - time.monotonic()
            if left <= 0:
                self._print()
            elif self.live and self._timer is None:
                self._timer = threading.Timer(left, self._print)
                self._timer.daemon = True
                self._timer.start()

    def clear(self) -> None:
        """Take the line away; the next state is a line of its own."""
        with self._drawing:
            self._latest = ""
            if self._above is not None:
                self._above.stream.write(CLEAR_LINE)
        self.end()

    def end(self) -> None:
        """Leave the last state standing."""
        with self._drawing:
            self._print()
            if self._above is not None:
                above, self._above = self._above, None
                sys.stderr = above.stream
                if self._latest:
                    # Whole, however many lines of the terminal that takes.
                    print(CLEAR_LINE + self._latest, file=sys.stderr, flush=True)
            self._latest = self._printed = ""
            self._printed_at = -math.inf

    @property
    def _pause(self) -> float:
        return _REDRAW_SECONDS if self.live else _PAUSE_SECONDS

    @property
    def _width(self) -> int:
        return max(shutil.get_terminal_size().columns, 20)

    def _print(self) -> None:
        with self._drawing:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._latest == self._printed or not self._latest:
                return
            self._printed, self._printed_at = self._latest, time.monotonic()
            if not self.live:
                print(self._latest, file=sys.stderr, flush=True)
                return
            if self._above is None:
                self._above = _Above(sys.stderr, self)
                sys.stderr = self._above
            self._above.stream.write(CLEAR_LINE + self._shown)
            self._above.stream.flush()

    @property
    def _shown(self) -> str:
        return shorten(self._printed, self._width - 1)

    def write_above(self, stream: TextIO, text: str) -> None:
        """Write whole lines above the line."""
        with self._drawing:
            stream.write(f"{CLEAR_LINE}{text}{self._shown}")
            stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class _Above:
    """Standard error while a line is shown: what is written to it appears above, line by line."""

    def __init__(self, stream: TextIO, line: LiveLine) -> None:
        self.stream = stream
        self._line = line
        self._begun = ""

    def write(self, text: str) -> int:
        lines, end, self._begun = (self._begun + text).rpartition("\n")
        if end:
            self._line.write_above(self.stream, lines + end)
        return len(text)

    def flush(self) -> None:
        """Do nothing: whole lines are written at once."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
