"""A TCP proxy between client and server that can lose, hold and cut what goes through it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

_PIECE = 64 << 10
# Linger for no time at all: close() resets the connection.
_RESET = struct.pack("ii", 1, 0)


class _Losing:
    """Whether what goes either way gets lost."""

    def __init__(self) -> None:
        self.requests = threading.Event()
        self.answers = threading.Event()
        self.holding = b""

    def look(self, answer: bytes) -> tuple[bytes, None]:
        """Lose it, and what follows, if it holds what is looked for."""
        if self.holding and self.holding in answer:
            self.answers.set()
        return answer, None


class Proxy:
    """Forwards a port of this machine to `targets` ("host:port"); a context manager.

    Connections go to the targets in turn, and past one that does not answer.

    `lose_answers()`: from now on nothing comes back from the server (requests still reach it);
    with bytes, from the answer on that holds them. The event that it returns says that it is so.
    `silence()`: the connections stay, and nothing goes through them any more; new ones work.
    `hold()`: nothing moves until `release()`.
    `cut()`: every connection is reset, and answers come again on new ones.
    `strike(after, action)`: calls `action` once that many more bytes have gone to the server, in
    the midst of whatever is sent; the next byte waits until it returns.

    `sent` counts the bytes that went to the server.
    """

    def __init__(self, *targets: str, host: str = "127.0.0.1") -> None:
        parted = [target.rpartition(":") for target in targets]
        # One with a "/" is a socket of this machine.
        self._targets = deque(
            port if "/" in port else (host, int(port)) for host, _, port in parted
        )
        self._listener = socket.create_server((host, 0))
        self.address = f"{host}:{self._listener.getsockname()[1]}"
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._losing = _Losing()
        self._moving = threading.Event()
        self._moving.set()
        self._lock = threading.Lock()
        self._strike_at: int | None = None
        self._action: Callable[[], object] = lambda: None
        self.connections = 0
        self.sent = 0

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone would leave accept() waiting.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.release()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def lose_answers(self, holding: bytes = b"") -> threading.Event:
        losing = self._losing
        if holding:
            losing.holding = holding
        else:
            losing.answers.set()
        return losing.answers

    def silence(self) -> None:
        with self._lock:
            # A new one for the connections that come.
            losing, self._losing = self._losing, _Losing()
        losing.requests.set()
        losing.answers.set()

    def hold(self) -> None:
        self._moving.clear()

    def release(self) -> None:
        self._moving.set()

    def cut(self) -> None:
        with self._lock:
            doomed, self._sockets = self._sockets, set()
            # A new one, so that what is still on its way through the old connections stays lost.
            self._losing = _Losing()
        for one in doomed:
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                # A thread that waits for it to be readable holds it open.
                one.shutdown(socket.SHUT_RD)
            one.close()

    def strike(self, after: int, action: Callable[[], object]) -> None:
        with self._lock:
            self._strike_at, self._action = self.sent + after, action

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
            server = self._connection()
            if server is None:
                client.close()
                continue
            with self._lock:
                self._sockets |= {client, server}
                self.connections += 1
                losing = self._losing
            self._run(self._forward, client, server, losing.requests, self._count)
            self._run(self._forward, server, client, losing.answers, losing.look)

    def _connection(self) -> socket.socket | None:
        for _ in range(len(self._targets)):
            self._targets.rotate(-1)
            target = self._targets[-1]
            with contextlib.suppress(OSError):
                if not isinstance(target, str):
                    return socket.create_connection(target)
                local = socket.socket(socket.AF_UNIX)
                local.connect(target)
                return local
        return None

    def _count(self, piece: bytes) -> tuple[bytes, Callable[[], object] | None]:
        """What of the piece comes before a strike, and the strike."""
        with self._lock:
            before = self.sent
            self.sent += len(piece)
            if self._strike_at is None or self.sent < self._strike_at:
                return piece, None
            self._strike_at, place = None, max(self._strike_at - before, 0)
            return piece[:place], self._action

    def _forward(
        self,
        source: socket.socket,
        sink: socket.socket,
        losing: threading.Event,
        count: Callable[[bytes], tuple[bytes, Callable[[], object] | None]],
    ) -> None:
        try:
            while piece := source.recv(_PIECE):
                self._moving.wait()
                first, strike = count(piece)
                if strike is not None:
                    if not losing.is_set():
                        sink.sendall(first)
                    strike()
                    self._moving.wait()
                    piece = piece[len(first) :]
                if not losing.is_set():
                    sink.sendall(piece)
        except OSError:
            pass
        if losing.is_set():
            # The other side is not told.
            return
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
