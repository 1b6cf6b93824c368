"""A status line on standard error, which a command updates while it runs."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING

from spooled_pipelines.text import plain

if TYPE_CHECKING:
    from rich.live import Live
    from typing_extensions import Self

# Printed before its own output by a process whose terminal another process draws a line on.
CLEAR_LINE = "\r\x1b[K"
# Elsewhere than on a terminal, a line is printed at most this often.
_PAUSE_SECONDS = 2.0


class LiveLine:
    """A line that is replaced in place on a terminal, and printed now and then elsewhere.

    The first and the last state are always shown. On a terminal, what is printed to standard error
    meanwhile appears above the line.

    Attributes:
        live: whether the line is replaced in place; False hides nothing, but prints.
    """

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self._display: Live | None = None
        self._latest = self._printed = ""
        self._printed_at = -math.inf

    def show(self, text: str) -> None:
        """Show the state, unless another one was shown a moment ago."""
        text = self._latest = plain(text)
        if self.live:
            display = self._display or self._start()
            display.update(text)
        elif time.monotonic() - self._printed_at >= _PAUSE_SECONDS:
            self._print()

    def end(self) -> None:
        """Leave the last state standing."""
        if self._display is not None:
            self._display.stop()
            self._display = None
        elif self._latest:
            self._print()
        self._latest = self._printed = ""

    def _print(self) -> None:
        if self._latest != self._printed:
            print(self._latest, file=sys.stderr, flush=True)
            self._printed, self._printed_at = self._latest, time.monotonic()

    def _start(self) -> Live:
        # Slow to import, and needed on a terminal only.
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        self._display = Live(console=console, refresh_per_second=10, redirect_stdout=False)
        self._display.start()
        return self._display

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
