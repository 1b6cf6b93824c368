"""Where programs that share a file meet: the name of a socket and a key, in a file beside it.

The name and the key stay the same when another process serves: the name is a link in a private
folder of this user, which each owner in turn points to a socket of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from spooled_pipelines.server.core.errors import StoreUnavailableError

# Systems differ, and the shortest limit is macOS' 104 bytes with the zero at the end.
_SOCKET_PATH_MAX = 103
_LONGEST_SUFFIX = len(".") + 16
# Characters that have a meaning in gRPC's addresses stay out of it.
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/+-]*")
_MAX_BYTES = 4096


@dataclass(frozen=True)
class Endpoint:
    """What is known of a shared file.

    Attributes:
        link: the path that clients connect to.
        api_key: the one key that is let in, for as long as this note exists.
        owner: the token of the lock's holder that serves now; empty: nobody.
    """

    link: Path
    api_key: str = field(repr=False)
    owner: str = ""

    @property
    def address(self) -> str:
        """What gRPC connects to."""
        return f"unix:{self.link}"

    def socket_of(self, token: str) -> Path:
        """Return the socket of one owner, beside the link."""
        return self.link.with_name(f"{self.link.name}.{token}")


def endpoint_file(store: Path) -> Path:
    """Return the file beside `store` that says it."""
    return store.with_name(store.name + ".embedded")


def read(store: Path) -> Endpoint | None:
    """Return the note beside the file; None where there is none, or where it is another file's.

    StoreUnavailableError where others may read or write it: the key would be theirs too.
    """
    path = endpoint_file(store)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreUnavailableError(f"{path} cannot be read: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        text = os.read(descriptor, _MAX_BYTES)
    finally:
        os.close(descriptor)
    if os.geteuid() not in (status.st_uid, 0) or status.st_mode & 0o077:
        raise StoreUnavailableError(
            f"{path} holds the key of {store.name}, and not this user alone may use it (mode "
            f"{stat.S_IMODE(status.st_mode):04o}, owner {status.st_uid}): end the programs that "
            "use it and remove it; a new one gets a new key"
        )
    return _parsed(text, store)


def write(store: Path, endpoint: Endpoint) -> None:
    """Write the note for other processes of this user: whole or not at all, and private."""
    path = endpoint_file(store)
    # mkstemp makes it 0600, whatever the umask.
    descriptor, part = tempfile.mkstemp(".part", f".{path.name}.", store.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(
                {
                    "link": str(endpoint.link),
                    "api_key": endpoint.api_key,
                    "owner": endpoint.owner,
                },
                file,
            )
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def withdraw(store: Path, endpoint: Endpoint) -> None:
    """Note that nobody serves the file any longer."""
    try:
        read(store)
    except StoreUnavailableError:
        endpoint_file(store).unlink(missing_ok=True)
    else:
        write(store, replace(endpoint, owner=""))
    endpoint.link.unlink(missing_ok=True)


def prepare(store: Path, known: Endpoint | None) -> Endpoint:
    """Return where the owner of the lock has to serve: where the last one did, if that is safe.

    Args:
        store: the file; its folder exists.
        known: what this process knows from before, for when the note itself is gone.
    """
    try:
        found = read(store) or known
    except StoreUnavailableError:
        # A key that others may have read is worth nothing.
        found = None
    if found is not None and _is_private(found.link.parent):
        return replace(found, owner="")
    key = found.api_key if found is not None else f"sp_test_{secrets.token_urlsafe(32)}"
    return Endpoint(_folder() / _identity(store), key)


def point_link_to(endpoint: Endpoint, socket: Path) -> None:
    """Point the link to this socket, and remove the sockets of dead owners."""
    link = endpoint.link
    fresh = link.with_name(f"{link.name}.link")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(socket.name)
    fresh.replace(link)
    for old in link.parent.glob(f"{link.name}.*"):
        if old != socket:
            old.unlink(missing_ok=True)


def _parsed(text: bytes, store: Path) -> Endpoint | None:
    try:
        values = json.loads(text)
        found = Endpoint(Path(values["link"]), str(values["api_key"]), str(values["owner"]))
    except (ValueError, TypeError, KeyError):
        return None
    # A copy of the file, or of its folder, must not meet with those of the original.
    return found if found.link.name == _identity(store) and found.api_key else None


def _identity(store: Path) -> str:
    folder = store.parent.stat()
    named = f"{folder.st_dev}:{folder.st_ino}:{store.name}"
    return hashlib.sha256(os.fsencode(named)).hexdigest()[:24]


def _folder() -> Path:
    """Return a folder for sockets that only this user can read; make it where it is missing."""
    for base in dict.fromkeys((tempfile.gettempdir(), "/tmp")):  # noqa: S108  (checked below)
        folder = Path(base) / f"spooled-{os.geteuid()}"
        if not _fits(folder):
            continue
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700)
        if _is_private(folder):
            return folder
        # Somebody else made the folder.
        with contextlib.suppress(OSError):
            made = Path(tempfile.mkdtemp(prefix="spooled-", dir=base))
            if _fits(made):
                return made
    raise StoreUnavailableError(
        f"there is no folder for a socket: {tempfile.gettempdir()} cannot be written, or its name "
        f"is too long; set TMPDIR to another one (a short one: {_SOCKET_PATH_MAX} bytes for all)"
    )


def _fits(folder: Path) -> bool:
    longest = len(os.fsencode(folder)) + 1 + 24 + _LONGEST_SUFFIX
    return longest <= _SOCKET_PATH_MAX and _PLAIN_PATH.fullmatch(str(folder)) is not None


def _is_private(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    mine = status.st_uid == os.geteuid()
    return stat.S_ISDIR(status.st_mode) and mine and not status.st_mode & 0o077
