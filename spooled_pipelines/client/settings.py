"""From what people pass to `connect` to the settings of a connection."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from spooled_pipelines.errors import AuthenticationError, InvalidArgumentError, UnavailableError
from spooled_pipelines.rpc.address import DEFAULT_ADDRESS
from spooled_pipelines.rpc.retry import RetryPolicy
from spooled_pipelines.rpc.settings import TLS, BatchExtension, ConnectionSettings

if TYPE_CHECKING:
    from spooled_pipelines.server.embedded import EmbeddedServer

ADDRESS_VARIABLE = "SPOOLED_GRPC_ADDRESS"
KEY_VARIABLE = "SPOOLED_API_KEY"
EMBEDDED = "embedded:"


def settings_from(
    address: str | ConnectionSettings | None,
    *,
    api_key: str | None,
    tls: TLS | bool | None,
    timeout_seconds: float,
    retry: RetryPolicy | None,
    batch_extension: BatchExtension,
) -> tuple[ConnectionSettings, EmbeddedServer | None]:
    """The settings, and the server that was started for them where the address is `embedded:`.

    Raises:
        AuthenticationError: there is no API key.
        InvalidArgumentError: an argument makes no sense.
        UnavailableError: the embedded server cannot open its file.
    """
    if isinstance(address, ConnectionSettings):
        if api_key is not None or tls is not None:
            raise InvalidArgumentError(
                "settings hold address, api_key and tls already: give those there, or no settings"
            )
        return address, None
    where = address or os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS
    rest: dict[str, Any] = {
        "timeout_seconds": timeout_seconds,
        "retry": retry or RetryPolicy(),
        "batch_extension": batch_extension,
    }
    if where.startswith(EMBEDDED):
        return _embedded(where.removeprefix(EMBEDDED), api_key, tls, rest)
    key, source = _key(api_key, where)
    settings = ConnectionSettings(where, api_key=key, tls=tls, api_key_source=source, **rest)
    return settings, None


def _key(given: str | None, address: str) -> tuple[str, str]:
    if given is not None:
        return given, "the api_key argument"
    key = os.environ.get(KEY_VARIABLE)
    if not key:
        raise AuthenticationError(
            f"no API key for {address}: pass api_key=..., or set {KEY_VARIABLE} "
            "(connect('embedded:PATH') starts a private server that needs none)"
        )
    return key, KEY_VARIABLE


def _embedded(
    path: str, api_key: str | None, tls: TLS | bool | None, rest: dict[str, Any]
) -> tuple[ConnectionSettings, EmbeddedServer]:
    if not path:
        raise InvalidArgumentError(
            "embedded: needs the path of the database file, such as embedded:jobs.db"
        )
    if api_key is not None or tls:
        what = "api_key" if api_key is not None else "tls"
        raise InvalidArgumentError(
            f"an embedded server is private to this process: leave {what} out"
        )
    from spooled_pipelines.server.embedded import EmbeddedServer
    from spooled_pipelines.server.errors import StoreUnavailableError

    try:
        server = EmbeddedServer.start(path)
    except (StoreUnavailableError, OSError) as error:
        raise UnavailableError(
            f"the embedded server did not start: {error}",
            details={"address": EMBEDDED + path, "cause": "store"},
        ) from error
    try:
        settings = ConnectionSettings(
            server.address,
            api_key=server.api_key,
            tls=False,
            api_key_source="the embedded server",
            **rest,
        )
    except BaseException:
        server.stop()
        raise
    return settings, server
