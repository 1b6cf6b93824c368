"""The sweeper: it moves the jobs that are due, takes back what leases left, and prunes."""

from __future__ import annotations

from spooled_pipelines.server.core.clock import Clock
from spooled_pipelines.server.core.lifecycle import Loop, LoopMonitor
from spooled_pipelines.server.core.notifier import Hub
from spooled_pipelines.server.core.retention import earliest
from spooled_pipelines.server.store import JobStore


class Sweeper(Loop):
    """Sweeps when a job is due, a lease ends, or somebody asks; it sleeps in between.

    While it sleeps it also wakes those who wait for a queue once its rate lets a job out.
    """

    def __init__(self, store: JobStore, hub: Hub, clock: Clock, monitor: LoopMonitor) -> None:
        super().__init__("sweeper", monitor)
        self._store = store
        self._hub = hub
        self._clock = clock
        self._due: int | None = None

    async def _work(self) -> None:
        # What a commit makes due while the sweep runs must lead to another one in any case.
        self._hub.sweep_asked, self._hub.timer_target = False, None
        self._due = self._hub.timer_target = await self._store.sweep()

    async def _wait(self) -> None:
        hub = self._hub
        while not hub.sweep_asked:
            now = self._clock.now()
            if self._due is not None and self._due <= now:
                return
            hub.timer.clear()
            await self._clock.sleep_until(earliest(self._due, hub.wake_held(now)), hub.timer)
