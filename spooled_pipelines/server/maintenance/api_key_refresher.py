"""Keeps the keys that are let in up to date: woken by changes and by the next expiry."""

from __future__ import annotations

import logging

from spooled_pipelines.server.auth.authentication import KeyRing
from spooled_pipelines.server.core.clock import Clock
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.notifier import Hub

_log = logging.getLogger(__name__)
_AFTER_FAILURE_MS = 1_000


async def keep_keys(ring: KeyRing, hub: Hub, clock: Clock) -> None:
    """Refresh whenever a key changed or ends, until the hub is closed."""
    target = ring.next_expiry()
    while True:
        await clock.sleep_until(target, hub.keys)
        # Before the read: what changes while it runs must wake it again.
        hub.keys.clear()
        if hub.closed:
            return
        try:
            await ring.refresh()
            target = ring.next_expiry()
        except RefusedError as refusal:
            _log.error("the keys could not be read and are read again soon: %s", refusal)
            target = clock.now() + _AFTER_FAILURE_MS
