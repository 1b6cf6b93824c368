"""The writer of the audit: it keeps what was gathered, once a minute at most."""

from __future__ import annotations

import asyncio

from spooled_pipelines.server.auth import Audit
from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.server.core.runtime.lifecycle import Loop, LoopMonitor

_PAUSE_MS = 60_000


class AuditWriter(Loop):
    """A loop that keeps refused keys and when keys were used, and sleeps while there are none."""

    def __init__(self, audit: Audit, clock: Clock, monitor: LoopMonitor) -> None:
        super().__init__("audit writer", monitor)
        self._audit = audit
        self._clock = clock

    async def _work(self) -> None:
        await self._audit.flush()

    async def _wait(self) -> None:
        await self._audit.gathered.wait()
        await self._clock.sleep_until(self._clock.now() + _PAUSE_MS, asyncio.Event())
