"""The sweeper: it makes due jobs ready, requeues those whose lease expired, and prunes."""

from __future__ import annotations

from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.server.core.runtime.lifecycle import Loop, LoopMonitor
from spooled_pipelines.server.core.runtime.notifier import Notifier
from spooled_pipelines.server.core.upkeep.retention import earliest
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

    async def _work(self) -> None:
        notifier = self._notifier
        # What a commit makes due while the sweep runs is not in what the sweep returns.
        notifier.sweep_requested, notifier.next_sweep = False, None
        moment = await self._store.sweep()
        notifier.next_sweep = earliest(moment, notifier.next_sweep)

    async def _wait(self) -> None:
        notifier = self._notifier
        while not notifier.sweep_requested:
            now, due = self._clock.now(), notifier.next_sweep
            if (due is not None and due <= now) or self._clock.step:
                return
            notifier.sweeper_woken.clear()
            await self._clock.sleep_until(
                earliest(due, notifier.wake_rate_limited(now)), notifier.sweeper_woken
            )
