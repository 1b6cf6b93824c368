"""The refresher of API keys: it reads them again when one changes or expires."""

from __future__ import annotations

from spooled_pipelines.server.auth import ApiKeys
from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.server.core.runtime.lifecycle import Loop, LoopMonitor
from spooled_pipelines.server.core.runtime.notifier import Notifier


class ApiKeyRefresher(Loop):
    """A loop that reads the accepted keys again, and sleeps until one changes or expires."""

    def __init__(
        self, keys: ApiKeys, notifier: Notifier, clock: Clock, monitor: LoopMonitor
    ) -> None:
        super().__init__("API key refresher", monitor)
        self._keys = keys
        self._notifier = notifier
        self._clock = clock

    async def _work(self) -> None:
        # Before the read: what changes while it runs must wake it again.
        self._notifier.api_keys_changed.clear()
        await self._keys.refresh()

    async def _wait(self) -> None:
        await self._clock.sleep_until(self._keys.next_expiry(), self._notifier.api_keys_changed)
