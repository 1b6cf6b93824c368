"""The one timer: it sleeps until a job is due, a lease ends, or a queue's rate lets a job out."""

from __future__ import annotations

import logging

from spooled_pipelines.server.core.clock import Clock
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.notifier import Hub
from spooled_pipelines.server.core.retention import earliest
from spooled_pipelines.server.store import JobStore

_log = logging.getLogger(__name__)
_AFTER_FAILURE_MS = 1_000


async def keep_time(store: JobStore, hub: Hub, clock: Clock) -> None:
    """Sweep whenever something is due, until the hub is closed."""
    while not hub.closed:
        # What a commit makes due while the sweep runs must lead to another one in any case.
        hub.sweep_asked, hub.timer_target = False, None
        try:
            target = await store.sweep()
        except RefusedError as refusal:
            _log.error("the sweep failed and is tried again: %s", refusal)
            target = clock.now() + _AFTER_FAILURE_MS
        hub.timer_target = target
        await _until_sweep(hub, clock, target)


async def _until_sweep(hub: Hub, clock: Clock, target: int | None) -> None:
    """Until `target`, or until asked; those whom a rate holds back are woken meanwhile."""
    while not (hub.closed or hub.sweep_asked):
        now = clock.now()
        if target is not None and target <= now:
            return
        hub.timer.clear()
        await clock.sleep_until(earliest(target, hub.wake_held(now)), hub.timer)
