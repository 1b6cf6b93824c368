"""The one timer: it sleeps until the next job is due or the next lease ends."""

from __future__ import annotations

import logging

from spooled_pipelines.server.clock import Clock
from spooled_pipelines.server.errors import RefusedError
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.server.wakeups import Hub

_log = logging.getLogger(__name__)
_AFTER_FAILURE_MS = 1_000


async def keep_time(store: JobStore, hub: Hub, clock: Clock) -> None:
    """Sweep whenever something is due, until the hub is closed."""
    while not hub.closed:
        hub.timer.clear()
        # What a commit makes due while the sweep runs must wake the timer in any case.
        hub.timer_target = None
        try:
            target = await store.sweep()
        except RefusedError as refusal:
            _log.error("the sweep failed and is tried again: %s", refusal)
            target = clock.now() + _AFTER_FAILURE_MS
        hub.timer_target = target
        await clock.sleep_until(target, hub.timer)
