"""API keys, and what is audited of them, as a store takes them in and gives them out."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple


@dataclass(frozen=True)
class KeyRecord:
    """An API key as it is kept. `role` is a value of `access.Role`; no `queues` means all."""

    organization: str
    key_id: str
    name: str
    role: str
    queues: tuple[str, ...]
    digest: bytes = field(repr=False)
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    created_by: str = ""
    last_used_at: int | None = None


class AuditKind(IntEnum):
    """The kinds of entries of the audit, of which each has its own room."""

    ADMIN = 0
    # What keys did that are not an admin's.
    OTHER = 1
    REFUSED = 2


class AuditEntry(NamedTuple):
    """What was done or refused with which key; see `AuditEntry` in keys.proto."""

    at: int
    kind: AuditKind
    times: int
    organization: str
    key_id: str
    key_name: str
    peer: str
    action: str
    target: str
    outcome: str


class AuditPage(NamedTuple):
    """Some entries, newest first; `before` is the number to go on below, None at the end."""

    entries: list[AuditEntry]
    before: int | None
