"""A server on a thread of the tests' own process, so that they hold its clock."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spooled_pipelines.server.config.settings import ServerSettings
from spooled_pipelines.server.server import Server
from tests.support.manual_clock import ManualClock
from tests.support.server_process import API_KEY

if TYPE_CHECKING:
    from typing_extensions import Self


class ServerThread:
    """Time stands still in it until `advance`; a context manager."""

    api_key = API_KEY

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.clock = ManualClock()
        self.address = ""
        given = {"listen": "127.0.0.1:0", "store": f"sqlite:///{folder / 'jobs.db'}", **settings}
        self._settings = ServerSettings(**given, api_keys=(API_KEY,), grace_seconds=1.0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = Server(self._settings, clock=self.clock)
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result(30)
        self.address = self._server.address
        return self

    def advance(self, seconds: float) -> None:
        async def move() -> None:
            self.clock.advance(seconds)

        asyncio.run_coroutine_threadsafe(move(), self._loop).result(30)

    def __exit__(self, *_: object) -> None:
        try:
            asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(30)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
