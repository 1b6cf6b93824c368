"""Who has the file: one process at a time, for as long as it lives."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import weakref
from pathlib import Path

from spooled_pipelines.server.core.errors import FileOwner, StoreInUseError, StoreUnavailableError
from spooled_pipelines.server.store.sqlite.connections.file_identity import refuse_aliases

# What an owner does with the file: serves it at an address that it was told, or to those who find
# that address beside the file.
SERVER, EMBEDDED = "server", "embedded"
_MAX_BYTES = 200


class FileLock:
    """Keeps a second server off the file, by whatever name it is called.

    The kernel lets go of it when the process ends, in whichever way. A forked child has no part
    in it, and cannot keep it beyond its parent's end.
    """

    def __init__(self, path: Path, kind: str = SERVER) -> None:
        self._store = path.resolve()
        # A file of its own: closing a descriptor of the database drops SQLite's locks on it.
        self._path = self._store.with_name(self._store.name + ".lock")
        self._kind = kind
        self._descriptor: int | None = None
        # Of the store itself: by whatever name another process opens it, it is this file.
        self._file: int | None = None
        self.inode: tuple[int, int] | None = None
        self.token = ""
        # That of the one before us: what is in the file tells whether it was restored since.
        self.last_token = ""

    def take(self) -> None:
        """Take the lock. May be repeated.

        StoreInUseError names the process that has it, other errors say why there can be no lock.
        """
        if self._descriptor is not None:
            return
        refuse_aliases(self._store)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self._path, flags, 0o600)
        except PermissionError as error:
            raise StoreUnavailableError(_not_ours(self._path)) from error
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise StoreUnavailableError(
                f"{self._path} is a link, which is not followed; remove it"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = _read(descriptor)
            os.close(descriptor)
            raise StoreInUseError(_in_use(self._store, owner), owner) from None
        try:
            self._lock_store()
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held.add(self)
        self.last_token = _last_token(descriptor)
        self.token = secrets.token_hex(8)
        line = f"{os.getpid()} {self._kind} {self.token}\n".encode()
        os.pwrite(descriptor, line, 0)
        os.ftruncate(descriptor, len(line))

    def _lock_store(self) -> None:
        """Lock the file itself; by then SQLite must not have it open in this process.

        To close a descriptor of it would drop SQLite's own locks.
        """
        try:
            found = self._store.stat()
            self.inode = found.st_dev, found.st_ino
        except FileNotFoundError:
            self.inode = None
        if self.inode is not None and any(self.inode == lock.inode for lock in _held):
            raise StoreUnavailableError(_other_name(self._store))
        # SQLite gives its log the mode of the file, which is made here.
        file = os.open(self._store, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise StoreUnavailableError(_other_name(self._store)) from None
        found = os.fstat(file)
        self._file, self.inode = file, (found.st_dev, found.st_ino)

    def release(self) -> None:
        """Let another server in."""
        descriptor, self._descriptor = self._descriptor, None
        _held.discard(self)
        if descriptor is not None:
            # Without a word of who had it, where there is still room to say so.
            with contextlib.suppress(OSError):
                line = f"\n{self.token}\n".encode()
                os.pwrite(descriptor, line, 0)
                os.ftruncate(descriptor, len(line))
            os.close(descriptor)
        self._close_store()

    def forget(self) -> None:
        """Close, in a forked child, what it inherited: the lock would outlive the parent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
        self._close_store()

    def _close_store(self) -> None:
        file, self._file = self._file, None
        self.inode = None
        if file is not None:
            os.close(file)


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _in_child() -> None:
    for lock in tuple(_held):
        lock.forget()
    _held.clear()


os.register_at_fork(after_in_child=_in_child)


def _read(descriptor: int) -> FileOwner:
    line = os.pread(descriptor, _MAX_BYTES, 0).decode("ascii", "replace").partition("\n")[0]
    return FileOwner(*line.split()[:3])


def _last_token(descriptor: int) -> str:
    """Return the token of the last owner, which has ended or died."""
    words = os.pread(descriptor, _MAX_BYTES, 0).decode("ascii", "replace").split()
    return words[-1] if words else ""


def _not_ours(path: Path) -> str:
    try:
        owner = path.stat().st_uid
    except OSError:
        return f"{path} cannot be made: user {os.geteuid()} may not write in its folder"
    return (
        f"{path} belongs to user {owner}, and this is user {os.geteuid()}: a file is served by "
        "programs of one user; let others in with `spooled-pipelines serve` and keys"
    )


def _other_name(store: Path) -> str:
    return (
        f"another server has {store} open under another name, or through a mount; stop it, or use "
        "its address instead"
    )


def _in_use(store: Path, owner: FileOwner) -> str:
    who = f"process {owner.process or 'unknown'}"
    if owner.kind == EMBEDDED:
        return (
            f"{who} has {store} open and serves it to programs that use embedded:{store}; "
            "end it, or use that address"
        )
    seen = f"; `ps {owner.process}` shows how it was started" if owner.process else ""
    return f"another server ({who}) has {store} open; stop it, or use its address instead{seen}"
