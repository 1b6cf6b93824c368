"""Authentication: whose call it is, by its API key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

from spooled_pipelines.server.auth.audit import Audit
from spooled_pipelines.server.auth.caller import Caller, Role
from spooled_pipelines.server.auth.failed_auth_limiter import FailedAuthLimiter
from spooled_pipelines.server.config.settings import DEFAULT_ORGANIZATION, HashedKey, hash_key
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.key_records import KeyRecord
from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.server.core.runtime.queue_names import QueueNames
from spooled_pipelines.server.store import JobStore

# By this header the caller says which organization it takes its key to be for.
_ORGANIZATION_HEADER = "x-spooled-organization"
_HINT = "send metadata x-api-key: KEY, or authorization: Bearer KEY"

Metadata = Iterable[tuple[str, str | bytes]]


class ApiKeys:
    """The API keys that are accepted, by their hash.

    They are those that the server was started with, which are admin keys, and those of the store
    as of the last `refresh`.
    """

    def __init__(
        self,
        given: Iterable[HashedKey],
        store: JobStore,
        clock: Clock,
        limiter: FailedAuthLimiter,
        audit: Audit,
        names: QueueNames,
    ) -> None:
        self._given = {key.digest: _given_caller(key) for key in given}
        self._stored: dict[bytes, KeyRecord] = {}
        self._store = store
        self._clock = clock
        self._limiter = limiter
        self._audit = audit
        self._names = names
        self._refreshing = asyncio.Lock()
        self._checked_at = 0
        self._after_refresh: list[Callable[[], None]] = []

    def after_refresh(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each refresh, for instance to end streams whose key is gone."""
        self._after_refresh.append(callback)

    async def refresh(self) -> None:
        """Read the store's keys and earlier names of queues again; from now on they count."""
        async with self._refreshing:
            self._names.take(await self._store.earlier_names())
            self._stored = {key.digest: key for key in await self._store.keys()}
        self._checked_at = self._clock.now()
        for callback in self._after_refresh:
            callback()

    def admits_anyone(self) -> bool:
        """Return whether there is any valid key."""
        return bool(self._given) or any(not self._why_not(key) for key in self._stored.values())

    def next_expiry(self) -> int | None:
        """Return when the next key expires, in milliseconds since the epoch."""
        # As of the last refresh: keys that expired since then have to be looked at again.
        since = self._checked_at
        ends = (key.expires_at for key in self._stored.values() if key.revoked_at is None)
        return min((end for end in ends if end is not None and end > since), default=None)

    def authenticate(self, metadata: Metadata, peer: str) -> Caller:
        """Return whose call this is.

        RefusedError UNAUTHENTICATED, or RESOURCE_EXHAUSTED after too many wrong keys of a peer.
        """
        key = _presented(metadata)
        if not key:
            raise RefusedError("UNAUTHENTICATED", f"no API key: {_HINT}")
        # Looked up by hash, so that the time it takes tells nothing about any key.
        digest = hash_key(key)
        stored = self._stored.get(digest)
        try:
            caller = self._known(digest)
        except RefusedError as refusal:
            self._audit.refused(peer, stored, refusal.message)
            self._limiter.failed(peer)
            raise
        if stored is not None:
            self._audit.used(stored)
        wanted = next((value for name, value in metadata if name == _ORGANIZATION_HEADER), None)
        if wanted is not None and wanted != caller.organization:
            if not caller.is_operator:
                raise RefusedError(
                    "PERMISSION_DENIED",
                    f"this API key is for the organization {caller.organization!r}, not {wanted!r}",
                    reason="organization",
                )
            caller = replace(caller, organization=str(wanted), is_operator=False, only_looks=True)
        return replace(caller, peer=peer, renamed=self._names.of(caller.organization))

    def why_invalid(self, caller: Caller) -> RefusedError | None:
        """Return why a running call must end; None where its key is still valid."""
        try:
            self._known(caller.digest)
        except RefusedError as refusal:
            return refusal
        return None

    def _known(self, digest: bytes) -> Caller:
        given = self._given.get(digest)
        if given is not None:
            return given
        key = self._stored.get(digest)
        against = "is not one that this server knows" if key is None else self._why_not(key)
        if key is None or against:
            raise RefusedError("UNAUTHENTICATED", f"the API key {against}")
        queues = frozenset(key.queues) if key.queues else None
        return Caller(
            key.organization, Role(key.role), queues, digest, key_id=key.key_id, name=key.name
        )

    def _why_not(self, key: KeyRecord) -> str:
        if key.revoked_at is not None:
            return "was revoked"
        if key.expires_at is not None and key.expires_at <= self._clock.now():
            return "has expired"
        return ""


def _given_caller(key: HashedKey) -> Caller:
    # Keys of the default organization that the server starts with are its operators'.
    is_operator = key.organization == DEFAULT_ORGANIZATION
    return Caller(
        key.organization,
        Role.ADMIN,
        None,
        key.digest,
        is_operator,
        # Several may be given: so much of the hash tells them apart.
        key_id=f"given_{key.digest[:4].hex()}",
        name="given to the server",
    )


def _presented(metadata: Metadata) -> str | None:
    bearer = None
    for name, value in metadata:
        if not isinstance(value, str):
            continue
        if name == "x-api-key":
            return value
        if name == "authorization":
            scheme, _, token = value.partition(" ")
            if scheme.lower() == "bearer":
                bearer = token.strip()
    return bearer
