"""The sweeper: it makes due jobs ready, requeues those whose lease expired, and prunes."""

from __future__ import annotations

from spooled_pipelines.server.core.clock import Clock
from spooled_pipelines.server.core.lifecycle import Loop, LoopMonitor
from spooled_pipelines.server.core.notifier import Notifier
from spooled_pipelines.server.core.retention import earliest
from spooled_pipelines.server.store import JobStore


class Sweeper(Loop):
    """A loop that sweeps when a job is due, a lease expires, or a commit asks for it.

    While it sleeps it also wakes those who wait for a queue once its rate lets a job out.
    """

    def __init__(
        self, store: JobStore, notifier: Notifier, clock: Clock, monitor: LoopMonitor
    ) -> None:
        super().__init__("sweeper", monitor)
        self._store = store
        self._notifier = notifier
        self._clock = clock
        self._due: int | None = None

    async def _work(self) -> None:
        # What a commit makes due while the sweep runs must lead to another one in any case.
        self._notifier.sweep_requested, self._notifier.next_sweep = False, None
        self._due = self._notifier.next_sweep = await self._store.sweep()

    async def _wait(self) -> None:
        notifier = self._notifier
        while not notifier.sweep_requested:
            now = self._clock.now()
            if (self._due is not None and self._due <= now) or self._clock.step:
                return
            notifier.sweeper_woken.clear()
            await self._clock.sleep_until(
                earliest(self._due, notifier.wake_rate_limited(now)), notifier.sweeper_woken
            )
