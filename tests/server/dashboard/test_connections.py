"""Who connects to the page and says nothing, or says it slowly, takes nobody's place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
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


async def test_there_are_only_so_many_and_a_place_that_is_free_is_taken(
    paged: PagedWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedConnection, "connections_max", 2)
    async with connected(paged) as (_, first), connected(paged):
        async with connected(paged) as (reader, _):
            assert await ended(reader) == b""
        first.close()
        await first.wait_closed()
        async with paged.visitor(None) as visitor:
            assert (await visitor.get("/healthz")).status_code == 200
