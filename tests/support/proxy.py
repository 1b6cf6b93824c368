"""A TCP proxy that can lose answers and cut connections, to stand between client and server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

_PIECE = 64 << 10


class Proxy:
    """Forwards a port of this machine to `target` ("host:port"); a context manager.

    `lose_answers()`: from now on nothing comes back from the server (requests still reach it).
    `cut()`: every connection is reset, and answers come again on new ones.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._losing = threading.Event()
        self._lock = threading.Lock()
        self.connections = 0

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone would leave accept() waiting.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def lose_answers(self) -> None:
        self._losing.set()

    def cut(self) -> None:
        with self._lock:
            doomed, self._sockets = self._sockets, set()
            # A new one, so that what is still on its way through the old connections stays lost.
            self._losing = threading.Event()
        for one in doomed:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._sockets |= {client, server}
                self.connections += 1
                losing = self._losing
            self._run(self._forward, client, server, threading.Event())
            self._run(self._forward, server, client, losing)

    def _forward(self, source: socket.socket, sink: socket.socket, losing: threading.Event) -> None:
        try:
            while piece := source.recv(_PIECE):
                if not losing.is_set():
                    sink.sendall(piece)
        except OSError:
            pass
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
