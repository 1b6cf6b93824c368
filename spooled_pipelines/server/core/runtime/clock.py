"""Time as the server sees it, so that tests can move it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

# The wall clock may be set while we sleep, so no sleep is longer than this.
_LONGEST_SLEEP_SECONDS = 5.0
# What is less is how clocks drift, and are corrected.
_STEP_MS = 1_000
# Goes on while the machine sleeps, where there is such a clock.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Milliseconds since the epoch, and a way to wait for a moment."""

    def now(self) -> int: ...

    @property
    def step(self) -> int:
        """By how many milliseconds the clock was set since that was last forgotten, if it was."""

    def forget_step(self, step: int) -> None:
        """Count on from the clock as it was set by this."""

    def follow(self, now: int) -> None:
        """Go on from this moment, steadily, whatever the machine's clock is set to.

        Less than a second ahead of it, stand still until it has come: a lease that was given is not
        to begin before one that has ended.
        """

    async def sleep_until(self, moment: int | None, woken: asyncio.Event) -> None:
        """Return at `moment` (None: never) or as soon as `woken` is set; may return early."""


class SystemClock:
    """The machine's clock, or another one that it follows: a database's."""

    def __init__(self) -> None:
        # How far ahead it is of a clock that nobody sets.
        self._ahead_of_steady = _wall() - _steady()
        self._follows = False
        # What it said before it was set back a little.
        self._not_before = 0

    def now(self) -> int:
        if not self._follows:
            return _wall()
        return max(_steady() + self._ahead_of_steady, self._not_before)

    @property
    def step(self) -> int:
        if self._follows:
            return 0
        step = _wall() - _steady() - self._ahead_of_steady
        return step if abs(step) >= _STEP_MS else 0

    def forget_step(self, step: int) -> None:
        self._ahead_of_steady += step

    def follow(self, now: int) -> None:
        before = self.now()
        self._not_before = before if self._follows and before < now + _STEP_MS else 0
        self._ahead_of_steady, self._follows = now - _steady(), True

    async def sleep_until(self, moment: int | None, woken: asyncio.Event) -> None:
        if moment is None:
            await woken.wait()
            return
        seconds = min(max(moment - self.now(), 0) / 1000, _LONGEST_SLEEP_SECONDS)
        try:
            await asyncio.wait_for(woken.wait(), seconds)
        except asyncio.TimeoutError:
            return


def _wall() -> int:
    return time.time_ns() // 1_000_000


def _steady() -> int:
    return time.clock_gettime_ns(_STEADY) // 1_000_000


class MovableClock(SystemClock):
    """The machine's clock, and what it was moved forward by."""

    def __init__(self) -> None:
        super().__init__()
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
