"""A connection of the dashboard, bounded in time and number."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

# Browsers use a handful each.
CONNECTIONS_MAX = 512
# From the last answer, or the beginning, until a whole request has arrived.
IDLE_SECONDS = 30.0
HANDSHAKE_SECONDS = 10.0


class BoundedConnection(H11Protocol):
    """An HTTP connection that is closed when it idles, and of which there are only so many.

    One more takes the place of the longest silent one, of the address that has the most.
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
        self.spoke_at = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look = self.loop.call_later(self.idle_seconds, self._look_at_it)
        if len(self.connections) > self.connections_max:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.spoke_at = self.loop.time()
        super().data_received(data)

    def _make_room(self) -> None:
        every = [one for one in self.connections if isinstance(one, BoundedConnection)]
        others = [one for one in every if one is not self and one.waits_for_client]
        held = Counter(one.host for one in every)
        silent = max(others, key=lambda one: (held[one.host], -one.spoke_at), default=self)
        # Its place is free at once; asyncio tells of its end in a later turn of the loop.
        self.connections.discard(silent)
        silent.transport.abort()

    @property
    def host(self) -> str:
        """The address that connected."""
        return self.client[0] if self.client else ""

    @property
    def waits_for_client(self) -> bool:
        """Whether the next step is the client's: to ask, to go on, or to read an answer."""
        request = self.cycle
        return (
            request is None
            or request.response_complete
            or request.more_body
            or self.flow.write_paused
        )

    def _look_at_it(self) -> None:
        if self.waits_for_client and self.cycle is self._known:
            self.transport.abort()
            return
        self._known = self.cycle
        self._look = self.loop.call_later(self.idle_seconds, self._look_at_it)
