"""Serves the page on the server's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from spooled_pipelines.server.config.settings import host_and_port
from spooled_pipelines.server.dashboard.app import Ground, make_app
from spooled_pipelines.server.dashboard.http_protocol import (
    CONNECTIONS_MAX,
    IDLE_SECONDS,
    BoundedConnection,
)
from spooled_pipelines.server.rpc.tls import CertificateFiles, PageCertificates

_BACKLOG = 128
_HEADERS_MAX_BYTES = 32 << 10


class PageServer:
    """`start`, then `stop`; both return when it is so."""

    def __init__(self, address: str, files: CertificateFiles | None, ground: Ground) -> None:
        self._address = address
        self._secure = files is not None
        config = uvicorn.Config(
            make_app(ground, secure=self._secure),
            http=BoundedConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            # Whoever sends X-Forwarded-For could choose for whom wrong keys are counted.
            proxy_headers=False,
            server_header=False,
            # uvicorn would set it ten times a second, as long as it lives.
            date_header=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=int(IDLE_SECONDS),
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=_HEADERS_MAX_BYTES,
        )
        config.load()
        if files is not None:
            config.ssl = PageCertificates(files).context()
        self._server = _Uvicorn(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Listen; returns the page's URL, with its real port. OSError where it cannot."""
        host, port = host_and_port(self._address, "http")
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            family, _, _, _, where = found[0]
            listening = socket.create_server(
                where,
                family=family,
                backlog=_BACKLOG,
            )
        except OSError as error:
            raise OSError(f"cannot listen on {self._address} for the page: {error}") from error
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]))
        await self._server.is_up.wait()
        shown = f"[{host}]" if ":" in host else host
        scheme = "https" if self._secure else "http"
        return f"{scheme}://{shown}:{listening.getsockname()[1]}/"

    async def stop(self) -> None:
        """End what is being answered, and close the port."""
        self._server.end()
        if self._task is not None:
            await self._task
            self._task = None


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the server that it is a part of, says when it listens, and then waits."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Let `serve` return."""
        self.should_exit = True
        self._ended.set()

    async def main_loop(self) -> None:
        # In place of a look at `should_exit` ten times a second.
        await self._ended.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.is_up.set()
