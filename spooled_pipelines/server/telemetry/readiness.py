"""Whether a server can take calls, as load balancers ask."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.runtime.lifecycle import LoopMonitor
from spooled_pipelines.server.store import JobStore

_STORE_SECONDS = 2.0


@dataclass(slots=True)
class Readiness:
    """What a server's readiness depends on: its store, its loops, and whether it is stopping."""

    store: JobStore
    loops: LoopMonitor
    stopping: bool = False

    async def problem(self) -> str | None:
        """Return why the server should get no calls; None where it is ready."""
        if self.stopping:
            return "the server is stopping"
        # The cheapest read: of a queue that does not exist.
        try:
            await asyncio.wait_for(self.store.queue("", ""), _STORE_SECONDS)
        except (RefusedError, asyncio.TimeoutError):
            return "the store does not answer"
        failing = self.loops.failing
        if failing:
            return f"the {' and the '.join(failing)} failed, and the server's log says why"
        return None
