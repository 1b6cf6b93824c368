"""A connection of the dashboard, bounded in time and number."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

# Browsers use a handful each.
CONNECTIONS_MAX = 512
# From the last answer, or the beginning, until a whole request has arrived.
IDLE_SECONDS = 30.0


class BoundedConnection(H11Protocol):
    """An HTTP connection that is closed when it idles, and of which there are only so many.

    uvicorn's own time-out begins with an answer, and its limit is one of requests: a client that
    only connects, or sends a request a byte at a time, would keep its place for ever.
    """

    connections_max = CONNECTIONS_MAX
    idle_seconds = IDLE_SECONDS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._look: asyncio.TimerHandle | None = None
        # The request that was being read or answered at the previous look.
        self._known: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.connections_max:
            transport.abort()
            return
        self._look = self.loop.call_later(self.idle_seconds, self._look_at_it)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def _look_at_it(self) -> None:
        request = self.cycle
        waits = request is None or request.response_complete or request.more_body
        if waits and request is self._known:
            self.transport.abort()
            return
        self._known = request
        self._look = self.loop.call_later(self.idle_seconds, self._look_at_it)
