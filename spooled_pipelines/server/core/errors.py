"""What the server refuses, as gRPC status names, so that no layer below handlers knows gRPC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

# Of refusals; a stream has a code of its own for it.
LEASE_LOST = "lease_lost"
LEASE_EXPIRED = "Lease expired"
LEASE_MISMATCH = "does not match the job's current lease"
_SHOWN_CHARACTERS = 120


class RefusedError(Exception):
    """A call that is answered with a status; `code` is the gRPC status name.

    `retry_after` (whole seconds) is set where waiting helps; `reason` is a word for programs where
    one code means several things. Both go out as trailing metadata.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retry_after: int | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.reason = reason


class NoMessageError(RefusedError):
    """A call that its client ended before its one message."""


class StoreUnavailableError(Exception):
    """The store cannot be opened: locked by another server, newer than this one, unreadable."""


@dataclass(frozen=True, slots=True)
class FileOwner:
    """What the process that has a store's file says about itself; empty until it has said so.

    `token` is of this one time that it has the file, and tells it from what was left earlier.
    """

    process: str = ""
    kind: str = ""
    token: str = ""


class NoStoreError(StoreUnavailableError):
    """A place where there is no store, and where none may be made."""


class StoreInUseError(StoreUnavailableError):
    """Another process has the store's file open: `owner`."""

    def __init__(self, message: str, owner: FileOwner) -> None:
        super().__init__(message)
        self.owner = owner


class StoreFaultError(RefusedError):
    """The store's file cannot be used now; nothing of what was refused so is in it.

    `reason` is what the database said; the sentence for clients says nothing about the machine.
    """

    status = "UNAVAILABLE"
    sentence = "the server's store fails ({reason}); what is acknowledged is kept; try again later"

    def __init__(self, reason: str) -> None:
        super().__init__(self.status, self.sentence.format(reason=reason))


class DiskFullError(StoreFaultError):
    """There is no room for what was asked."""

    sentence = (
        "the disk of the server's store is full; what is acknowledged is kept; free space there, "
        "and try again"
    )


class ReadOnlyStoreError(StoreFaultError):
    """The file, or the disk that it is on, does not take writes."""

    sentence = (
        "the server's store is read-only; make its file and folder writable for the server, and "
        "try again"
    )


class LockedStoreError(StoreFaultError):
    """Another program holds the file's lock."""

    sentence = (
        "another program has locked the file of the server's store, and its log says which; what "
        "is acknowledged is kept; try again later"
    )


class MovedStoreError(StoreFaultError):
    """The file was moved, deleted or replaced while it was open."""

    sentence = (
        "the file of the server's store ({reason}) was moved, deleted or replaced while the server "
        "had it open; nothing was kept of this call; put it back, or restart the server"
    )


class CorruptStoreError(StoreFaultError):
    """The file is damaged: trying again does not help."""

    status = "INTERNAL"
    sentence = (
        "the file of the server's store is damaged; stop the server, look at it with "
        "`spooled-pipelines check`, and go back to a backup"
    )


def why_not(check: Callable[[T], object], value: T) -> str | None:
    """Return why the check refuses the value; None if it does not."""
    try:
        check(value)
    except RefusedError as refusal:
        return refusal.message
    return None


def invalid(message: str) -> RefusedError:
    """Return the refusal of a value that is outside the contract."""
    return RefusedError("INVALID_ARGUMENT", message)


def not_found(message: str) -> RefusedError:
    """There is no such thing for this organization."""
    return RefusedError("NOT_FOUND", message)


def conflict(message: str) -> RefusedError:
    """Return the refusal of a call for a job whose state does not allow it."""
    return RefusedError("FAILED_PRECONDITION", message)


def lease_lost(message: str) -> RefusedError:
    """Return the refusal of a holder whose lease is not the job's current one."""
    return RefusedError("FAILED_PRECONDITION", message, reason=LEASE_LOST)


def stopping() -> RefusedError:
    """Return the refusal of a server that is stopping; another one may do the call."""
    return RefusedError("UNAVAILABLE", "the server is stopping; connect again")


def shortened(value: object) -> str:
    """Return how a value is shown in a message."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def no_key(key_id: str) -> RefusedError:
    """Return the refusal where an organization has no key of this id."""
    return not_found(f"there is no key {shortened(key_id)}; `keys list` shows which there are")
