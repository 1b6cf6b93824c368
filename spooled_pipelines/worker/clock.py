"""The time that a worker goes by."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection


class Clock:
    """Monotonic seconds and waiting by them: the machine's, unless a test passes its own.

    A clock of another kind overrides `monotonic`, `sleep` and `wait_in_thread`.
    """

    def monotonic(self) -> float:
        """Return the seconds since some moment in the past."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait until so many seconds have passed."""
        await asyncio.sleep(seconds)

    def wait_in_thread(self, event: threading.Event, timeout: float) -> bool:
        """Block until the event is set, at most `timeout` seconds; return whether it is."""
        return event.wait(timeout)

    async def wait(
        self, tasks: Collection[asyncio.Task[object]], timeout: float | None = None
    ) -> set[asyncio.Task[object]]:
        """Wait for the first of the tasks, at most `timeout` seconds; return those that are done.

        The tasks go on.
        """
        if timeout is None:
            return (await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED))[0]
        timer = asyncio.ensure_future(self.sleep(timeout))
        try:
            await asyncio.wait([*tasks, timer], return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
        return {task for task in tasks if task.done()}

    async def wait_for_event(self, event: asyncio.Event, timeout: float | None = None) -> bool:
        """Wait until the event is set, at most `timeout` seconds; return whether it is."""
        if event.is_set() or timeout is None:
            return await event.wait()
        waiter = asyncio.ensure_future(event.wait())
        try:
            await self.wait([waiter], timeout)
        finally:
            waiter.cancel()
        return event.is_set()


SYSTEM_CLOCK = Clock()
