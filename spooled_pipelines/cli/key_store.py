"""Calls of the KeyService: in the store itself, or of the server that has it open."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import sys
from collections.abc import Callable, Iterator
from datetime import timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from spooled_pipelines.cli.exit_codes import UsageError

if TYPE_CHECKING:
    from spooled_pipelines.cli.options import Server
    from spooled_pipelines.client import SpooledClient

# Takes the name of an RPC and its request, and returns the response.
KeyCall: TypeAlias = Callable[[str, Any], Any]


@contextlib.contextmanager
def open_keys(store: str | None, server: Server) -> Iterator[KeyCall]:
    """Open the store itself, or ask its server if it has the store open."""
    with contextlib.ExitStack() as stack:

        def call(name: str, request: Any) -> Any:
            if store is not None:
                try:
                    return _call_in_store(store, name, request)
                except _InUseError as in_use:
                    client = stack.enter_context(server.connect())
                    address, file = client.settings.address, client.settings.file
                    path = Path(store.removeprefix("sqlite:///"))
                    if file is not None and Path(file).resolve() != path.resolve():
                        raise UsageError(f"{in_use}: name that server with --address") from None
                    print(f"{in_use}; asking the server at {file or address}", file=sys.stderr)
                    return _call_server(client, name, request)
            client = stack.enter_context(server.connect())
            return _call_server(client, name, request)

        yield call


def key_dict(key: Any) -> dict[str, Any]:
    """Return a key of a response as a dict."""
    times = {
        name: getattr(key, name).ToDatetime(timezone.utc).replace(microsecond=0)
        if key.HasField(name)
        else None
        for name in ("created_at", "expires_at", "revoked_at", "last_used_at")
    }
    about = {"id": key.id, "organization": key.organization, "name": key.name}
    about |= {"role": key.role, "created_by": key.created_by}
    return {**about, "queues": [*key.queues], **times}


def audit_dict(entry: Any) -> dict[str, Any]:
    """Return an entry of the audit as a dict."""
    at = entry.at.ToDatetime(timezone.utc).replace(microsecond=0)
    names = [field.name for field in entry.DESCRIPTOR.fields if field.name != "at"]
    return {"at": at, **{name: getattr(entry, name) for name in names}}


class _InUseError(Exception):
    """A server has the store open."""


def _call_in_store(url: str, name: str, request: Any) -> Any:
    """Open the store as a server would, make the call as an operator, and close it again."""
    from spooled_pipelines.server.auth import ACTS, Audit, Caller, Role
    from spooled_pipelines.server.config.settings import DEFAULT_ORGANIZATION
    from spooled_pipelines.server.core.errors import (
        RefusedError,
        StoreInUseError,
        StoreUnavailableError,
    )
    from spooled_pipelines.server.core.runtime.clock import SystemClock
    from spooled_pipelines.server.services import KeyService
    from spooled_pipelines.server.store.migrations import MigrationMode
    from spooled_pipelines.server.store.open import open_store
    from spooled_pipelines.wire.methods import KEYS

    caller = Caller(
        DEFAULT_ORGANIZATION,
        Role.ADMIN,
        None,
        b"",
        is_operator=True,
        key_id="local",
        name=getpass.getuser(),
        peer="the store itself",
    )

    async def run() -> Any:
        clock = SystemClock()
        # The first key is made before there is a server. No schema is brought up to date.
        mode = MigrationMode.CREATE if name == "CreateKey" else MigrationMode.REFUSE
        store = open_store(url, clock, migrate=mode)
        await store.open(lambda _: None)
        try:
            service = KeyService(store, clock)
            calls: dict[str, Callable[[Caller, Any], Any]] = {
                "CreateKey": service.create_key,
                "ListKeys": service.list_keys,
                "RevokeKey": service.revoke_key,
                "ListAudit": service.list_audit,
            }
            answer = await calls[name](caller, request)
            method = KEYS[name]
            if method.path in ACTS:
                await Audit(store, clock).acted(caller, method, request, answer)
            return answer
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except StoreInUseError as error:
        raise _InUseError(str(error).partition(";")[0]) from error
    except (StoreUnavailableError, RefusedError) as error:
        raise UsageError(str(error)) from error


def _call_server(client: SpooledClient, name: str, request: Any) -> Any:
    from spooled_pipelines.wire.methods import KEYS

    # A repeated CreateKey would create two keys, one of which nobody sees.
    return client.connection.unary(KEYS[name], request, repeatable=name != "CreateKey")
