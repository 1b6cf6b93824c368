"""The dashboard's HTTP server, on the event loop of the server."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack

import uvicorn
from uvicorn.server import ServerState

from spooled_pipelines.server.config.settings import host_and_port
from spooled_pipelines.server.core.runtime.lifecycle import Service
from spooled_pipelines.server.dashboard.app import AppContext, make_app
from spooled_pipelines.server.dashboard.http_protocol import (
    HANDSHAKE_SECONDS,
    IDLE_SECONDS,
    BoundedConnection,
)
from spooled_pipelines.server.rpc import CertificateFiles, HttpCertificates

_BACKLOG = 128
_HEADERS_MAX_BYTES = 32 << 10


class DashboardServer(Service):
    """The dashboard's HTTP server, on the event loop that starts it.

    `start` raises OSError where it cannot listen.

    Attributes:
        app: what answers, for any ASGI server.
        url: the dashboard's, with its real port; set by `start`.
    """

    def __init__(self, address: str, files: CertificateFiles | None, context: AppContext) -> None:
        super().__init__()
        self.url = ""
        self.app = make_app(context, secure=files is not None)
        self._address = address
        self._files = files

    async def _start(self, cleanup: AsyncExitStack) -> None:
        host, port = host_and_port(self._address, "http")
        config = self._config()
        listening = self._bound(host, port)
        cleanup.callback(listening.close)
        # Not `Server.serve`: it takes the process's signals, and looks ten times a second whether
        # it has to end.
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[])
        server.servers = [await self._accept(config, server.server_state, listening)]
        cleanup.push_async_callback(server.shutdown, sockets=[listening])
        shown = f"[{host}]" if ":" in host else host
        scheme = "https" if self._files is not None else "http"
        self.url = f"{scheme}://{shown}:{listening.getsockname()[1]}/"

    def _config(self) -> uvicorn.Config:
        config = uvicorn.Config(
            self.app,
            http=BoundedConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            # A client that sends X-Forwarded-For could choose for whom wrong keys are counted.
            proxy_headers=False,
            server_header=False,
            # uvicorn would set it ten times a second, as long as it lives.
            date_header=False,
            # It would refuse requests, not connections: `BoundedConnection` makes room instead.
            limit_concurrency=None,
            timeout_keep_alive=int(IDLE_SECONDS),
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=_HEADERS_MAX_BYTES,
        )
        config.load()
        if self._files is not None:
            config.ssl = HttpCertificates.of(self._files)
        return config

    async def _accept(
        self, config: uvicorn.Config, state: ServerState, listening: socket.socket
    ) -> asyncio.Server:
        """Serve what connects. uvicorn's own start would wait a minute for each handshake."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(
            lambda: BoundedConnection(config=config, server_state=state, app_state={}),
            sock=listening,
            ssl=config.ssl,
            ssl_handshake_timeout=HANDSHAKE_SECONDS if config.ssl else None,
            backlog=_BACKLOG,
        )

    def _bound(self, host: str, port: int) -> socket.socket:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            family, _, _, _, where = found[0]
            return socket.create_server(where, family=family, backlog=_BACKLOG)
        except OSError as error:
            raise OSError(f"cannot listen on {self._address} for the dashboard: {error}") from error
