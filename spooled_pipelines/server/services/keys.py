"""spooled_pipelines.v1.KeyService."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from spooled_pipelines.server.auth import Caller, key_id, new_key, organization_name
from spooled_pipelines.server.core import key_records, validation
from spooled_pipelines.server.core.errors import RefusedError, invalid, shortened
from spooled_pipelines.server.core.key_records import KeyRecord
from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.server.services.encoding import timestamp
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.server.store.limits import too_many
from spooled_pipelines.server.store.requests import NEWEST
from spooled_pipelines.wire.keys_v1 import (
    AuditEntry,
    CreateKeyRequest,
    CreateKeyResponse,
    Key,
    ListAuditRequest,
    ListAuditResponse,
    ListKeysRequest,
    ListKeysResponse,
    RevokeKeyRequest,
    RevokeKeyResponse,
)

# Of one organization, with those that ended: so many, and of their queues' names so much text.
_KEYS_MAX, _NAMES_MAX_BYTES = 5_000, 1 << 20
_PAGE_TOKEN = re.compile(r"([0-9]{1,15})\.(key_[0-9a-f]{16})")


class KeyService:
    """The service of API keys. A change counts on this server before it is answered."""

    def __init__(
        self,
        store: JobStore,
        clock: Clock,
        refresh: Callable[[], Awaitable[None]] | None = None,
        flush_audit: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`refresh` makes the server that serves this read the keys again.

        `flush_audit` makes it keep what it gathered for the audit.
        """
        self._store = store
        self._clock = clock
        self._refresh = refresh
        self._flush_audit = flush_audit

    async def create_key(self, caller: Caller, request: CreateKeyRequest) -> CreateKeyResponse:
        organization = _organization(caller, request.organization)
        there, names_bytes = await self._store.count_keys(organization)
        if there >= _KEYS_MAX:
            raise too_many("keys", _KEYS_MAX)
        has_end = request.HasField("expires_at")
        # A time before the epoch has passed just as the epoch has.
        expires_at = (
            (validation.timestamp("expires_at", request.expires_at) or 1) if has_end else None
        )
        about = (request.name, request.role, request.queues)
        record, secret = new_key(organization, *about, expires_at, self._clock.now(), caller.key_id)
        names_bytes += len(",".join(record.queues))
        if record.queues and names_bytes > _NAMES_MAX_BYTES:
            raise RefusedError(
                "RESOURCE_EXHAUSTED",
                f"the keys of this organization would name queues with {names_bytes} characters, "
                f"and at most {_NAMES_MAX_BYTES} fit; name fewer, or make a key for all queues",
            )
        await self._store.add_key(record)
        await self._changed()
        return CreateKeyResponse(key=_message(record), secret=secret)

    async def list_keys(self, caller: Caller, request: ListKeysRequest) -> ListKeysResponse:
        organization = _organization(caller, request.organization)
        size = validation.page_size(request.page_size)
        after = _after(request.page_token)
        await self._flush()
        found = await self._store.list_keys(organization, after, size + 1)
        last = found[size - 1] if len(found) > size else None
        return ListKeysResponse(
            keys=[_message(key) for key in found[:size]],
            next_page_token=None if last is None else f"{last.created_at}.{last.key_id}",
        )

    async def revoke_key(self, caller: Caller, request: RevokeKeyRequest) -> RevokeKeyResponse:
        organization = _organization(caller, request.organization)
        record = await self._store.revoke_key(organization, key_id(request.id))
        await self._changed()
        return RevokeKeyResponse(key=_message(record))

    async def list_audit(self, caller: Caller, request: ListAuditRequest) -> ListAuditResponse:
        everything = caller.is_operator and not request.organization
        organization = None if everything else _organization(caller, request.organization)
        size = validation.page_size(request.page_size)
        tokens, pages = self._store.page_tokens, ("audit", organization)
        before = tokens.number(*pages, request.page_token) or NEWEST
        await self._flush()
        page = await self._store.list_audit(organization, before, size)
        return ListAuditResponse(
            entries=[_entry(entry) for entry in page.entries],
            next_page_token=None if page.before is None else tokens.token(*pages, page.before),
        )

    async def _flush(self) -> None:
        if self._flush_audit is not None:
            await self._flush_audit()

    async def _changed(self) -> None:
        if self._refresh is not None:
            await self._refresh()


def _organization(caller: Caller, named: str) -> str:
    if not named or named == caller.organization:
        return caller.organization
    if not caller.is_operator:
        message = "only a key that the server was started with may manage another organization"
        raise RefusedError("PERMISSION_DENIED", message, reason="organization")
    return organization_name(named)


def _after(token: str) -> tuple[int, str]:
    """Return when the last key of the page before was made, and its id."""
    if not token:
        return 0, ""
    found = _PAGE_TOKEN.fullmatch(token)
    if found is None:
        raise invalid(f"page_token {shortened(token)} is not one that this server gave out")
    return int(found[1]), found[2]


def _entry(entry: key_records.AuditEntry) -> AuditEntry:
    values = entry._asdict()
    refused = values.pop("kind") is key_records.AuditKind.REFUSED
    return AuditEntry(**values | {"at": timestamp(entry.at), "refused": refused})


def _message(key: KeyRecord) -> Key:
    message = Key(
        id=key.key_id,
        organization=key.organization,
        name=key.name,
        role=key.role,
        queues=key.queues,
        created_at=timestamp(key.created_at),
        created_by=key.created_by,
    )
    if key.expires_at is not None:
        message.expires_at.CopyFrom(timestamp(key.expires_at))
    if key.revoked_at is not None:
        message.revoked_at.CopyFrom(timestamp(key.revoked_at))
    if key.last_used_at is not None:
        message.last_used_at.CopyFrom(timestamp(key.last_used_at))
    return message
