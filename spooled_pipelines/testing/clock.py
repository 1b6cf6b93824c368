"""A clock that tests can move, for workers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from spooled_pipelines.worker.clock import Clock

_POLL_SECONDS = 0.02


class MovableClock(Clock):
    """The machine's clock, and what it was moved forward by. May be moved from any thread."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._lock = threading.Lock()
        self._sleepers: set[Callable[[], None]] = set()

    def advance(self, seconds: float) -> None:
        """Move forward; those that sleep look at the time again."""
        with self._lock:
            self._ahead += seconds
            sleepers = list(self._sleepers)
        for wake in sleepers:
            wake()

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead

    async def sleep(self, seconds: float) -> None:
        until = self.monotonic() + seconds
        loop = asyncio.get_running_loop()
        moved = asyncio.Event()

        def wake() -> None:
            # A loop that is closed has nobody left to wake.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(moved.set)

        with self._lock:
            self._sleepers.add(wake)
        try:
            while (left := until - self.monotonic()) > 0:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(moved.wait(), left)
                moved.clear()
        finally:
            with self._lock:
                self._sleepers.discard(wake)

    def wait_in_thread(self, event: threading.Event, timeout: float) -> bool:
        until = self.monotonic() + timeout
        while (left := until - self.monotonic()) > 0:
            if event.wait(min(left, _POLL_SECONDS)):
                return True
        return event.is_set()
