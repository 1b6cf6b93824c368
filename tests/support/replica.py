"""One of several servers' stores on one PostgreSQL database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from spooled_pipelines.server.core.runtime.notifier import CommitEvent
from spooled_pipelines.server.store.postgres.store import PostgresStore
from tests.support.manual_clock import ManualClock
from tests.support.store_kit import StoreKit

HEARD_SECONDS = 30.0


class Replica(StoreKit):
    """A store that tells what it heard, as soon as it does."""

    def __init__(self, url: str, clock: ManualClock, **options: Any) -> None:
        super().__init__(lambda clock: PostgresStore(url, clock, **options), clock)
        self._heard = asyncio.Event()

    def _note(self, changes: CommitEvent) -> None:
        super()._note(changes)
        self._heard.set()

    async def hears(
        self, condition: Callable[[CommitEvent], object], seconds: float = HEARD_SECONDS
    ) -> None:
        """Until what was published fulfils the condition; nothing is asked for meanwhile."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not condition(self.changes):
            self._heard.clear()
            left = deadline - asyncio.get_running_loop().time()
            await asyncio.wait_for(self._heard.wait(), left)
