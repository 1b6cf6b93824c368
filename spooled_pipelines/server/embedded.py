"""A private server within this process, on a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
import threading
from pathlib import Path

from spooled_pipelines.server.run import Server
from spooled_pipelines.server.settings import ServerSettings


class EmbeddedServer:
    """Serves a file to this process alone: the address is a socket that only this user can reach,
    and the key is known to nobody else.

    Attributes:
        address: "unix:PATH".
        api_key: the one key that it lets in; not shown in the repr.
    """

    def __init__(self, path: str | Path, *, batch_extension: bool = True) -> None:
        self.api_key = f"sp_test_{secrets.token_urlsafe(32)}"
        self._path = Path(path).expanduser().absolute()
        self._folder = Path(tempfile.mkdtemp(prefix="spooled-"))
        self.address = f"unix:{self._folder / 'server.sock'}"
        self._settings = ServerSettings(
            listen=self.address,
            store=f"sqlite:///{self._path}",
            api_keys=(self.api_key,),
            batch_extension=batch_extension,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="spooled-embedded", daemon=True)

    @classmethod
    def start(cls, path: str | Path, *, batch_extension: bool = True) -> EmbeddedServer:
        """Open or make the file and serve it; returns when it answers.

        StoreUnavailableError says why it cannot, for example because another process has it.
        """
        server = cls(path, batch_extension=batch_extension)
        server._thread.start()
        server._started.wait()
        if server._failure is not None:
            server.stop()
            raise server._failure
        return server

    def __repr__(self) -> str:
        return f"EmbeddedServer({str(self._path)!r})"

    def stop(self) -> None:
        """Commit what was taken in and let go of the file; may be repeated."""
        if self._loop is not None and self._ended is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

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
        server = Server(self._settings)
        await server.start()
        self._started.set()
        try:
            await self._ended.wait()
        finally:
            await server.stop()
