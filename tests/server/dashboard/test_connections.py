"""Who connects to the page and says nothing, or says it slowly, takes nobody's place."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import pytest

from spooled_pipelines.server.dashboard.http_protocol import BoundedConnection
from tests.support.paged_wire import PagedWire

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
WAIT_SECONDS = 60


@asynccontextmanager
async def connected(paged: PagedWire) -> AsyncIterator[Connection]:
    url = urlsplit(paged.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What came until the other side closed it."""
    try:
        return await asyncio.wait_for(reader.read(), WAIT_SECONDS)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: here\r\nX-Slow: ",
        b"POST /sign-in HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\ntoken=",
    ],
    ids=["nothing", "half a request", "half a body"],
)
async def test_a_connection_without_a_whole_request_is_closed(
    paged: PagedWire, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(BoundedConnection, "idle_seconds", 0.2)
    async with connected(paged) as (reader, writer):
        writer.write(said)
        assert b"200 OK" not in await ended(reader)


async def test_one_that_asks_now_and_then_stays(
    paged: PagedWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[object] = []
    look: Callable[[BoundedConnection], None] = BoundedConnection._look_at_it

    def noted(connection: BoundedConnection) -> None:
        looks.append(connection)
        look(connection)

    monkeypatch.setattr(BoundedConnection, "_look_at_it", noted)
    monkeypatch.setattr(BoundedConnection, "idle_seconds", 0.5)
    async with connected(paged) as (reader, writer):
        while len(looks) < 3:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_SECONDS)
            assert b"200 OK" in head
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))


async def test_a_client_that_does_not_read_its_answers_is_closed(
    paged: PagedWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedConnection, "idle_seconds", 0.5)
    url = urlsplit(paged.url)
    loop = asyncio.get_running_loop()
    asking = b"GET /static/htmx.min.js HTTP/1.1\r\nHost: here\r\n\r\n" * 10_000

    async def ask_on(client: socket.socket) -> None:
        # Until the buffers of both sides are full, so that the server waits.
        while True:
            await loop.sock_sendall(client, asking)

    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, (url.hostname, url.port))
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(ask_on(client), WAIT_SECONDS)


async def test_silent_connections_lose_their_place_to_one_that_asks(
    paged: PagedWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As many as there may be, and some more.
    places = 64
    monkeypatch.setattr(BoundedConnection, "connections_max", places)
    async with AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(connected(paged)) for _ in range(places + 4)]
        async with paged.visitor(None) as visitor:
            for path in ("/healthz", "/readyz", "/sign-in"):
                assert (await visitor.get(path)).status_code == 200
                await stack.enter_async_context(connected(paged))
        for reader, _ in silent[:4]:
            assert await ended(reader) == b""
        # The latest are still there.
        reader, writer = silent[-1]
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
        assert b"200 OK" in await asyncio.wait_for(reader.readline(), WAIT_SECONDS)
