"""A clock for a server in this process, which stands still until a test moves it."""

from __future__ import annotations

import asyncio


class ManualClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self._now = now
        self.step = 0
        self._sleepers: list[tuple[int, asyncio.Event]] = []

    def now(self) -> int:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward and let those sleep no longer whose moment has come."""
        self._now += round(seconds * 1000)
        for moment, woken in self._sleepers:
            if moment <= self._now:
                woken.set()

    def jump(self, seconds: float) -> None:
        """Be set forward, or back: no time passes."""
        self._now += round(seconds * 1000)
        self.step += round(seconds * 1000)

    def forget_step(self, step: int) -> None:
        self.step -= step

    def follow(self, now: int) -> None:
        """Stands still all the same."""

    async def sleep_until(self, moment: int | None, woken: asyncio.Event) -> None:
        if moment is None:
            await woken.wait()
            return
        if moment <= self._now:
            return
        sleeper = (moment, woken)
        self._sleepers.append(sleeper)
        try:
            await woken.wait()
        finally:
            self._sleepers.remove(sleeper)
