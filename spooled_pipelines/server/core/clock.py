"""Time as the server sees it, so that tests can move it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

# The wall clock may be set while we sleep, so no sleep is longer than this.
_LONGEST_SLEEP_SECONDS = 60.0


class Clock(Protocol):
    """Milliseconds since the epoch, and a way to wait for a moment."""

    def now(self) -> int: ...

    async def sleep_until(self, moment: int | None, woken: asyncio.Event) -> None:
        """Return at `moment` (None: never) or as soon as `woken` is set; may return early."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep_until(self, moment: int | None, woken: asyncio.Event) -> None:
        if moment is None:
            await woken.wait()
            return
        seconds = min(max(moment - self.now(), 0) / 1000, _LONGEST_SLEEP_SECONDS)
        try:
            await asyncio.wait_for(woken.wait(), seconds)
        except asyncio.TimeoutError:
            return


class MovableClock(SystemClock):
    """The machine's clock, and what it was moved forward by."""

    def __init__(self) -> None:
        self._ahead = 0
        self._sleepers: list[asyncio.Event] = []

    def now(self) -> int:
        return super().now() + self._ahead

    def advance(self, seconds: float) -> None:
        """Move forward; those who sleep look at the time again. In the sleepers' event loop."""
        self._ahead += round(seconds * 1000)
        for woken in self._sleepers:
            woken.set()

    async def sleep_until(self, moment: int | None, woken: asyncio.Event) -> None:
        self._sleepers.append(woken)
        try:
            await super().sleep_until(moment, woken)
        finally:
            self._sleepers.remove(woken)
