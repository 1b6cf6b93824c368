"""Management of API keys, in the store itself or through the server that has it open."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from spooled_pipelines.cli.exit_codes import UsageError
from spooled_pipelines.cli.options import connected

if TYPE_CHECKING:
    from spooled_pipelines.client import SpooledClient
    from spooled_pipelines.server.core.records import KeyRecord
    from spooled_pipelines.server.store import JobStore

T = TypeVar("T")
KeyDict = dict[str, Any]
_FIELDS = ("created_at", "expires_at", "revoked_at")


class Keys(Protocol):
    """The operations on keys. A key is returned as a dict, without its hash."""

    def create(
        self,
        organization: str | None,
        name: str,
        role: str,
        queues: Sequence[str],
        expires_at: datetime | None,
    ) -> tuple[KeyDict, str]:
        """Create a key; return it and its secret."""

    def list(self, organization: str | None) -> list[KeyDict]:
        """Return the keys of an organization, oldest first."""

    def revoke(self, organization: str | None, key_id: str) -> KeyDict:
        """Revoke a key now."""


@contextlib.contextmanager
def open_keys(
    store: str | None, address: str | None, api_key: str | None, profile: str | None
) -> Iterator[Keys]:
    """Open the store itself, or ask its server if it has the store open."""
    if store is not None:
        direct = _StoreKeys(store)
        try:
            direct.list(None)
        except _InUseError as in_use:
            print(f"{in_use}; asking that server", file=sys.stderr)
        else:
            yield direct
            return
    with connected(address, api_key, profile) as client:
        yield _ServerKeys(client)


class _InUseError(Exception):
    """A server has the store open."""


class _StoreKeys:
    """Keys in a store that is opened for each operation, as a server would, and closed again."""

    def __init__(self, url: str) -> None:
        self._url = url

    def create(
        self,
        organization: str | None,
        name: str,
        role: str,
        queues: Sequence[str],
        expires_at: datetime | None,
    ) -> tuple[KeyDict, str]:
        from spooled_pipelines.server.auth import new_key
        from spooled_pipelines.server.core.clock import SystemClock
        from spooled_pipelines.server.core.errors import RefusedError

        end = None if expires_at is None else int(expires_at.timestamp() * 1000)
        now = SystemClock().now()
        try:
            record, secret = new_key(_or_default(organization), name, role, queues, end, now)
        except RefusedError as refusal:
            raise UsageError(refusal.message) from refusal
        self._run(lambda store: store.add_key(record))
        return _from_record(record), secret

    def list(self, organization: str | None) -> list[KeyDict]:
        records = self._run(lambda store: store.keys())
        return [
            _from_record(key) for key in records if key.organization == _or_default(organization)
        ]

    def revoke(self, organization: str | None, key_id: str) -> KeyDict:
        from spooled_pipelines.server.auth import key_id as checked

        owner = _or_default(organization)

        async def revoked(store: JobStore) -> KeyRecord:
            return await store.revoke_key(owner, checked(key_id))

        return _from_record(self._run(revoked))

    def _run(self, operation: Callable[[JobStore], Awaitable[T]]) -> T:
        from spooled_pipelines.server.core.clock import SystemClock
        from spooled_pipelines.server.core.errors import (
            RefusedError,
            StoreInUseError,
            StoreUnavailableError,
        )
        from spooled_pipelines.server.store.open import open_store

        async def run() -> T:
            store = open_store(self._url, SystemClock())
            await store.open(lambda _: None)
            try:
                return await operation(store)
            finally:
                await store.close()

        try:
            return asyncio.run(run())
        except StoreInUseError as error:
            raise _InUseError(str(error).partition(";")[0]) from error
        except (StoreUnavailableError, RefusedError) as error:
            raise UsageError(str(error)) from error


class _ServerKeys:
    """Keys of a running server, which has to be asked with an admin key."""

    def __init__(self, client: SpooledClient) -> None:
        self._client = client

    def create(
        self,
        organization: str | None,
        name: str,
        role: str,
        queues: Sequence[str],
        expires_at: datetime | None,
    ) -> tuple[KeyDict, str]:
        from spooled_pipelines.wire.keys_v1 import CreateKeyRequest

        request = CreateKeyRequest(
            organization=organization or "", name=name, role=role, queues=queues
        )
        if expires_at is not None:
            request.expires_at.FromDatetime(expires_at)
        # A repeated call would create two keys, one of which nobody sees.
        response = self._call("CreateKey", request, repeatable=False)
        return _from_message(response.key), response.secret

    def list(self, organization: str | None) -> list[KeyDict]:
        from spooled_pipelines.wire.keys_v1 import ListKeysRequest

        request = ListKeysRequest(organization=organization or "")
        return [_from_message(key) for key in self._call("ListKeys", request).keys]

    def revoke(self, organization: str | None, key_id: str) -> KeyDict:
        from spooled_pipelines.wire.keys_v1 import RevokeKeyRequest

        request = RevokeKeyRequest(organization=organization or "", id=key_id)
        return _from_message(self._call("RevokeKey", request).key)

    def _call(self, name: str, request: Any, *, repeatable: bool = True) -> Any:
        from spooled_pipelines.wire.methods import KEY_SERVICE, methods_of

        method = methods_of(KEY_SERVICE)[name]
        return self._client.connection.unary(method, request, repeatable=repeatable)


def _or_default(organization: str | None) -> str:
    from spooled_pipelines.server.config.settings import DEFAULT_ORGANIZATION

    return organization or DEFAULT_ORGANIZATION


def _from_record(key: KeyRecord) -> KeyDict:
    times = {
        name: None if moment is None else datetime.fromtimestamp(moment // 1000, timezone.utc)
        for name in _FIELDS
        for moment in (getattr(key, name),)
    }
    about = {"id": key.key_id, "organization": key.organization, "name": key.name}
    return {**about, "role": key.role, "queues": [*key.queues], **times}


def _from_message(key: Any) -> KeyDict:
    times = {
        name: getattr(key, name).ToDatetime(timezone.utc).replace(microsecond=0)
        if key.HasField(name)
        else None
        for name in _FIELDS
    }
    about = {"id": key.id, "organization": key.organization, "name": key.name}
    return {**about, "role": key.role, "queues": [*key.queues], **times}
