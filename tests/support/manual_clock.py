"""A clock for a server in this process, which stands still until a test moves it."""

from __future__ import annotations

import asyncio


class ManualClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self._now = now
        self._sleepers: list[tuple[int, asyncio.Event]] = []

    def now(self) -> int:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward and let those sleep no longer whose moment has come."""
        self._now += round(seconds * 1000)
        for moment, woken in self._sleepers:
            if moment <= self._now:
                woken.set()

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
