"""The sweeper sweeps when something is due, and not because something will be."""

from __future__ import annotations

import asyncio
from typing import cast

from spooled_pipelines.server.core.runtime.lifecycle import LoopMonitor
from spooled_pipelines.server.core.runtime.notifier import CommitEvent, Notifier
from spooled_pipelines.server.maintenance.sweeper import Sweeper
from spooled_pipelines.server.store import JobStore
from tests.support.manual_clock import ManualClock
from tests.support.waiting import aeventually


class Claimed:
    """A store of which jobs are claimed in the middle of each sweep, for thirty seconds."""

    def __init__(self, notifier: Notifier, clock: ManualClock) -> None:
        self.sweeps = 0
        self._notifier, self._clock = notifier, clock

    async def sweep(self) -> int | None:
        """Return what the sweep knew when it began: nothing is due."""
        self.sweeps += 1
        await asyncio.sleep(0)
        self._notifier.publish(CommitEvent(due=self._clock.now() + 30_000))
        return None


async def test_a_lease_that_begins_during_a_sweep_is_swept_when_it_ends() -> None:
    clock, notifier = ManualClock(), Notifier()
    store = Claimed(notifier, clock)
    sweeper = Sweeper(cast("JobStore", store), notifier, clock, LoopMonitor())
    await sweeper.start()
    try:
        await aeventually(lambda: notifier.next_sweep == clock.now() + 30_000)
        for _ in range(100):
            await asyncio.sleep(0)
        assert store.sweeps == 1
        clock.advance(31)
        await aeventually(lambda: store.sweeps == 2)
        # An earlier one is news, a later one is not.
        notifier.publish(CommitEvent(due=clock.now() + 60_000))
        notifier.publish(CommitEvent(due=clock.now() + 10_000))
        clock.advance(11)
        await aeventually(lambda: store.sweeps == 3)
    finally:
        await sweeper.stop()
