"""A server in memory for tests, on a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from spooled_pipelines.server.config.settings import ServerSettings
from spooled_pipelines.server.core.runtime.clock import MovableClock
from spooled_pipelines.server.server import Server
from spooled_pipelines.server.store.sqlite.memory import MemoryStore

T = TypeVar("T")


class MemoryServer:
    """A server of a store in memory, at a free port of this machine, with a clock to be moved.

    Attributes:
        address: what clients connect to, once it has started.
        api_key: the one key that it lets in.
    """

    def __init__(self, *, batch_extension: bool = True) -> None:
        self.address = ""
        self.api_key = f"sp_test_{secrets.token_hex(16)}"
        settings = ServerSettings(
            listen="127.0.0.1:0",
            store="sqlite:///:memory:",
            api_keys=(self.api_key,),
            batch_extension=batch_extension,
            grace_seconds=1.0,
        )
        self._clock = MovableClock()
        self._server = Server(settings, clock=self._clock, store=MemoryStore(self._clock))
        self._changing = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Return once it answers, over an empty store; nothing is done where it runs.

        OSError where it cannot listen.
        """
        with self._changing:
            if self._thread is not None:
                return
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="spooled-memory", daemon=True
            )
            self._thread.start()
            try:
                self._in_loop(self._server.start())
            except BaseException:
                self._end_loop(self._thread)
                raise
            self.address = self._server.address

    def skip(self, seconds: float) -> None:
        """Move the clock forward; return once what fell due by then has happened."""
        self._in_loop(self._skip(seconds))

    def stop(self) -> None:
        """Return once it is stopped and what it held is gone; nothing is done where it is."""
        with self._changing:
            if self._thread is None:
                return
            try:
                self._in_loop(self._server.stop())
            finally:
                self._end_loop(self._thread)

    async def _skip(self, seconds: float) -> None:
        self._clock.advance(seconds)
        await self._server.store.sweep()

    def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end_loop(self, thread: threading.Thread) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        thread.join()
        self._loop.close()
        self._thread = None
