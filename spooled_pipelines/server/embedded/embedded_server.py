"""A server within this process, on a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import weakref
from dataclasses import replace
from pathlib import Path

from spooled_pipelines.server.config.settings import ServerSettings
from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.embedded import endpoint
from spooled_pipelines.server.embedded.endpoint import Endpoint
from spooled_pipelines.server.server import Server
from spooled_pipelines.server.store.sqlite.connections.filelock import EMBEDDED, FileLock
from spooled_pipelines.server.store.sqlite.store import SqliteStore


class EmbeddedServer:
    """A server of a file for the processes of this user, at a socket that only they find.

    Attributes:
        path: the file, by its real name.
        endpoint: where others find this server.
    """

    def __init__(
        self,
        path: Path,
        where: Endpoint,
        lock: FileLock,
        *,
        batch_extension: bool = True,
    ) -> None:
        self.path = path
        self.endpoint = where
        self._lock = lock
        self._socket = where.socket_of(lock.token)
        settings = ServerSettings(
            listen=f"unix:{self._socket}",
            store=f"sqlite:///{path}",
            api_keys=(where.api_key,),
            batch_extension=batch_extension,
        )
        clock = SystemClock()
        store = SqliteStore(
            settings.store,
            clock,
            settings.retention,
            max_deliveries=settings.max_deliveries,
            lock=lock,
        )
        self._server = Server(settings, clock=clock, store=store)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="spooled-embedded", daemon=True)

    @classmethod
    def start(
        cls,
        path: str | Path,
        *,
        lock: FileLock | None = None,
        known: Endpoint | None = None,
        batch_extension: bool = True,
    ) -> EmbeddedServer:
        """Open or make the file and serve it; return once it answers.

        Args:
            path: the file.
            lock: on that file, released where this fails. None: it is taken here.
            known: where this process knows the file to have been served before.
            batch_extension: False makes it answer as a plain server.

        StoreUnavailableError says why it cannot, StoreInUseError that another process has it.
        """
        real = real_path(path)
        lock = lock or lock_on(real)
        try:
            lock.take()
            where = endpoint.prepare(real, known)
            server = cls(real, where, lock, batch_extension=batch_extension)
            server._serve_on_thread()
        except OSError as error:
            lock.release()
            raise StoreUnavailableError(f"{real} cannot be served: {error}") from error
        except BaseException:
            lock.release()
            raise
        _serving.add(server)
        return server

    def __repr__(self) -> str:
        return f"EmbeddedServer({str(self.path)!r})"

    @property
    def address(self) -> str:
        """What clients connect to."""
        return self.endpoint.address

    @property
    def api_key(self) -> str:
        """The one key that it lets in."""
        return self.endpoint.api_key

    def stop(self) -> None:
        """Commit what was taken in and release the file; it may be repeated."""
        if self._loop is not None and self._ended is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        _serving.discard(self)
        self._socket.unlink(missing_ok=True)

    def forget(self) -> None:
        """Close what a forked child inherited, which must not look like a running server."""
        with Path(os.devnull).open() as nothing:
            for number in _open_descriptors():
                if _is_socket_at(number, str(self._socket)):
                    # The number stays taken: gRPC may still know it.
                    os.dup2(nothing.fileno(), number)

    def _serve_on_thread(self) -> None:
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self.stop()
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001  # raised by `start` in its own thread
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        await self._server.start()
        try:
            endpoint.point_link_to(self.endpoint, self._socket)
            serving = replace(self.endpoint, owner=self._lock.token)
            endpoint.write(self.path, serving)
            self.endpoint = serving
            self._started.set()
            await self._ended.wait()
            # Clients that come now wait for the next server.
            with contextlib.suppress(OSError):
                endpoint.withdraw(self.path, serving)
        finally:
            await self._server.stop()


def real_path(path: str | Path) -> Path:
    """Return the one absolute name of a file, without links."""
    return Path(path).expanduser().resolve()


def lock_on(path: Path) -> FileLock:
    """Return the lock of an embedded server, not taken yet; make the file's folder.

    StoreUnavailableError where the folder cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailableError(f"{path} cannot be opened as a store: {error}") from error
    return FileLock(path, EMBEDDED)


_serving: weakref.WeakSet[EmbeddedServer] = weakref.WeakSet()


def _in_child() -> None:
    for server in tuple(_serving):
        server.forget()
    _serving.clear()


os.register_at_fork(after_in_child=_in_child)


def _open_descriptors() -> list[int]:
    with contextlib.suppress(OSError):
        return [int(entry.name) for entry in Path("/dev/fd").iterdir()]
    return []


def _is_socket_at(descriptor: int, path: str) -> bool:
    try:
        found = socket.socket(fileno=descriptor)
    except OSError:
        return False
    try:
        return found.family == socket.AF_UNIX and found.getsockname() == path
    finally:
        found.detach()
