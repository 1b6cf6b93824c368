"""A server as from far away: a proxy in a process of its own that hands bytes on after a time.

It delays and does not slow down: any number of bytes may be on their way. Run as a program it takes
the address of the server and the milliseconds of a round trip, and prints its own address.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast


@contextmanager
def away(address: str, round_trip_ms: float) -> Iterator[str]:
    """Where `address` is found this far away."""
    command = [sys.executable, "-m", "benchmarks.distance", address, str(round_trip_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


class _End(asyncio.Protocol):
    """One side of a connection: what comes in goes out on the other side, a while later."""

    def __init__(self, seconds: float) -> None:
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None
        self._seconds = seconds
        # When it is there, and what; None is the end.
        self._travelling: deque[tuple[float, bytes | None]] = deque()
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._send(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._send(None)

    def _send(self, data: bytes | None) -> None:
        if not self._travelling:
            self._loop.call_later(self._seconds, self._arrive)
        self._travelling.append((self._loop.time() + self._seconds, data))

    def _arrive(self) -> None:
        """Hand over what is due. In order, whatever the timers do."""
        now = self._loop.time()
        while self._travelling and self._travelling[0][0] <= now:
            data = self._travelling.popleft()[1]
            transport = None if self.other is None else self.other.transport
            if transport is None or transport.is_closing():
                continue
            if data is None:
                transport.close()
            else:
                transport.write(data)
        if self._travelling:
            self._loop.call_at(self._travelling[0][0], self._arrive)


class _Door(_End):
    """The side that the client is on: opens the way to the server."""

    def __init__(self, seconds: float, host: str, port: int) -> None:
        super().__init__(seconds)
        self._target = (host, port)
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._opening = asyncio.ensure_future(self._open())

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        else:
            super().data_received(data)

    async def _open(self) -> None:
        _, other = await self._loop.create_connection(lambda: _End(self._seconds), *self._target)
        self.other, other.other = other, self
        for data in self._early:
            self._send(data)
        self._early.clear()


async def _serve(address: str, round_trip_ms: float) -> None:
    host, _, port = address.rpartition(":")
    seconds = round_trip_ms / 2_000
    loop = asyncio.get_running_loop()
    serving = await loop.create_server(lambda: _Door(seconds, host, int(port)), "127.0.0.1", 0)
    print(f"127.0.0.1:{serving.sockets[0].getsockname()[1]}", flush=True)
    await serving.serve_forever()


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(sys.argv[1], float(sys.argv[2])))
    else:
        uvloop.run(_serve(sys.argv[1], float(sys.argv[2])))
