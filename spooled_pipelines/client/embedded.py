"""A database file that several programs share: one serves it, and when it ends, another does.

Nothing polls. A program whose call finds no server tries to get the file's lock, which the kernel
gives to exactly one; the others find that one at the same address.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
from pathlib import Path
from time import monotonic, sleep

from spooled_pipelines.errors import SpooledError, UnavailableError
from spooled_pipelines.rpc import fork_guard
from spooled_pipelines.server.core.errors import StoreInUseError, StoreUnavailableError
from spooled_pipelines.server.embedded import endpoint
from spooled_pipelines.server.embedded.embedded_server import EmbeddedServer, lock_on, real_path
from spooled_pipelines.server.embedded.endpoint import Endpoint
from spooled_pipelines.server.store.sqlite.connections.filelock import EMBEDDED

log = logging.getLogger("spooled_pipelines.client")

# How long the current owner may take to publish its address or to release the file; longer than
# a stopping server waits for its calls.
_SETTLE_SECONDS = 10.0
# The same for an owner that is not an embedded server, such as `keys create --store`.
_OTHER_SECONDS = 1.0
_LOOK_FIRST_SECONDS, _LOOK_SECONDS, _LOOK_GROWTH = 0.005, 0.1, 1.5


class EmbeddedServerHandle:
    """This process's handle on one file, shared by all of its clients of that file; see `acquire`.

    Attributes:
        path: the file, by its real name.
        clients: how many have acquired it and not released it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clients = 0
        self._where: Endpoint | None = None
        self._server: EmbeddedServer | None = None
        self._changing = threading.Lock()
        self._takeover_thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"EmbeddedServerHandle({str(self.path)!r})"

    @property
    def address(self) -> str:
        """The address for gRPC, which does not depend on the process that serves."""
        return self._found.address

    @property
    def api_key(self) -> str:
        """The file's key, which does not depend on the process that serves."""
        return self._found.api_key

    @property
    def serves(self) -> bool:
        """Whether this process serves the file now."""
        return self._server is not None

    def release(self) -> None:
        """Remove one client. After the last one, the file is free for another process."""
        with _registry:
            self.clients -= 1
            if self.clients > 0:
                return
            if _files.get(self.path) is self:
                del _files[self.path]
        self.stop()

    def stop(self) -> None:
        """Stop serving the file."""
        with self._changing:
            server, self._server = self._server, None
            if server is not None:
                server.stop()

    def forget(self) -> None:
        """Reset the handle in a forked child, which has the clients but not the threads."""
        self._server = None
        self._takeover_thread = None
        self._changing = threading.Lock()

    def take_over_in_background(self) -> None:
        """Ensure on a thread that the file is served, and return at once."""
        if self._server is not None:
            return
        with _registry:
            if self.clients < 1 or (
                self._takeover_thread is not None and self._takeover_thread.is_alive()
            ):
                return
            self._takeover_thread = threading.Thread(
                target=self._take_over, name="spooled-take-over", daemon=True
            )
            # No thread can be started any more when the interpreter ends.
            with contextlib.suppress(RuntimeError):
                self._takeover_thread.start()

    @property
    def _found(self) -> Endpoint:
        if self._where is None:
            raise RuntimeError(f"ensure_served() was not called for {self.path}")
        return self._where

    def _take_over(self) -> None:
        before = None if self._where is None else self._where.owner
        try:
            self.ensure_served(before)
        except SpooledError as error:
            log.warning("no process serves embedded:%s: %s", self.path, error)

    def ensure_served(self, before: str | None = None) -> None:
        """Return once a process other than the owner `before` serves the file.

        If that one still has it after a second, perhaps only the connection was broken: the next
        call that finds no server comes here again.
        """
        started = monotonic()
        pause = _LOOK_FIRST_SECONDS
        while True:
            with self._changing:
                try:
                    if self._server is not None or self.clients < 1:
                        return
                    in_use = self._look(before)
                except (StoreUnavailableError, OSError) as error:
                    raise self._unavailable(str(error)) from error
            if in_use is None:
                return
            waited = monotonic() - started
            if before is not None and waited > _OTHER_SECONDS and _is_embedded(in_use):
                return
            limit = _SETTLE_SECONDS if _is_embedded(in_use) else _OTHER_SECONDS
            if waited > limit:
                raise self._unavailable(self._why_not(in_use)) from in_use
            sleep(pause)
            pause = min(_LOOK_SECONDS, pause * _LOOK_GROWTH)

    def _look(self, before: str | None) -> StoreInUseError | None:
        """Serve the file, or find the process that does; return why neither worked, or None."""
        lock = lock_on(self.path)
        try:
            lock.take()
        except StoreInUseError as in_use:
            found = endpoint.read(self.path)
            token = in_use.owner.token
            if found is None or not token or found.owner != token or token == before:
                return in_use
            self._where = found
            return None
        try:
            fork_guard.ensure_grpc_usable()
            self._server = EmbeddedServer.start(self.path, lock=lock, known=self._where)
        except BaseException:
            lock.release()
            raise
        self._where = self._server.endpoint
        if before is not None:
            log.info("process %d serves %s now", os.getpid(), self.path)
        return None

    def _why_not(self, in_use: StoreInUseError) -> str:
        if not _is_embedded(in_use):
            return str(in_use)
        return (
            f"process {in_use.owner.process or 'unknown'} has it, and did not say within "
            f"{_SETTLE_SECONDS:g} s in {endpoint.endpoint_file(self.path)} where it serves it: "
            "end that process"
        )

    def _unavailable(self, why: str) -> UnavailableError:
        return UnavailableError(
            f"embedded:{self.path} cannot be used: {why}",
            reason="store",
            details={"address": f"embedded:{self.path}"},
        )


def _is_embedded(in_use: StoreInUseError) -> bool:
    # A process that has just taken it has not published its purpose yet.
    return in_use.owner.kind in (EMBEDDED, "")


_files: dict[Path, EmbeddedServerHandle] = {}
_registry = threading.Lock()


def acquire(path: str | Path) -> EmbeddedServerHandle:
    """Return this process's handle on the file, with one more client, which has to release it.

    Returns once the file is served, by this process if no other does.

    Raises:
        UnavailableError: it cannot be served, or another server has it.
        ConflictError: this process was forked from one that used gRPC.
    """
    real = real_path(path)
    with _registry:
        file = _files.setdefault(real, EmbeddedServerHandle(real))
        file.clients += 1
    try:
        file.ensure_served()
    except BaseException:
        file.release()
        raise
    return file


@atexit.register
def _leave_all() -> None:
    """Release every file in good order, so that others need not find out."""
    with _registry:
        files = list(_files.values())
        _files.clear()
    for file in files:
        file.stop()


def _in_child() -> None:
    global _registry  # noqa: PLW0603  (its holder is not in this process)
    _registry = threading.Lock()
    for file in _files.values():
        file.forget()


os.register_at_fork(after_in_child=_in_child)
