"""From what people pass to `connect` to the settings of a connection."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spooled_pipelines.errors import AuthenticationError, InvalidArgumentError, UnavailableError
from spooled_pipelines.rpc.address import DEFAULT_ADDRESS
from spooled_pipelines.rpc.retry import RetryPolicy
from spooled_pipelines.rpc.settings import TLS, BatchExtension, ConnectionSettings

if TYPE_CHECKING:
    from spooled_pipelines.client.embedded import EmbeddedServerHandle

ADDRESS_VARIABLE = "SPOOLED_GRPC_ADDRESS"
KEY_VARIABLE = "SPOOLED_API_KEY"
TLS_VARIABLE = "SPOOLED_TLS"
# PEM files, and the name in the server's certificate.
_TLS_VARIABLES = {
    "ca": "SPOOLED_TLS_CA",
    "client_certificate": "SPOOLED_TLS_CLIENT_CERT",
    "client_key": "SPOOLED_TLS_CLIENT_KEY",
    "server_name": "SPOOLED_TLS_SERVER_NAME",
}
_SWITCH = {"on": True, "off": False}
EMBEDDED = "embedded:"
# Where the jobs are kept if nobody names a server.
DEFAULT_STORE = "spooled.db"
# Often, for as long as a server that leaves may take to end its calls.
_WHILE_ANOTHER_TAKES_OVER = RetryPolicy(max_attempts=60, initial_seconds=0.05, max_seconds=0.25)


def default_address(api_key: str | None = None) -> tuple[str, str]:
    """Return the address for a caller who names none, and a sentence if nothing names a server.

    SPOOLED_GRPC_ADDRESS; else, for those who have an API key, the server of this machine; else the
    file ./spooled.db, which needs neither server nor key.
    """
    if named := os.environ.get(ADDRESS_VARIABLE):
        return named, ""
    if api_key or os.environ.get(KEY_VARIABLE):
        return DEFAULT_ADDRESS, ""
    address = f"{EMBEDDED}{Path(DEFAULT_STORE).resolve()}"
    return address, (
        f"No server was named, so the jobs are kept in {address.removeprefix(EMBEDDED)}; a worker "
        f"in a terminal finds them at --address {address}. To use a server: address=…, or "
        f"{ADDRESS_VARIABLE} and {KEY_VARIABLE}."
    )


def resolve_settings(
    address: str | ConnectionSettings | None,
    *,
    api_key: str | None,
    tls: TLS | bool | None,
    timeout_seconds: float,
    retry: RetryPolicy | None,
    batch_extension: BatchExtension,
    rate_limit: float | None = None,
) -> tuple[ConnectionSettings, EmbeddedServerHandle | None]:
    """Return the settings, and a handle on the file if the address is `embedded:`.

    Raises:
        AuthenticationError: there is no API key.
        InvalidArgumentError: an argument makes no sense.
        UnavailableError: the file of `embedded:` cannot be served, or another server has it.
    """
    if isinstance(address, ConnectionSettings):
        if api_key is not None or tls is not None:
            raise InvalidArgumentError(
                "settings hold address, api_key and tls already: give those there, or no settings"
            )
        if address.file is None:
            return address, None
        if not Path(address.file).exists():
            raise UnavailableError(
                f"these settings are of {address.name}, and there is no such file on this machine",
                reason="store",
                details={"address": address.name},
            )
        # The process that was given them may not be the one that keeps the server alive.
        file = _acquired(address.file)
        return replace(address, address=file.address), file
    where = address or os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS
    rest: dict[str, Any] = {
        "timeout_seconds": timeout_seconds,
        "retry": retry or RetryPolicy(),
        "batch_extension": batch_extension,
        "rate_limit": rate_limit,
    }
    if where.startswith(EMBEDDED):
        rest["retry"] = retry or _WHILE_ANOTHER_TAKES_OVER
        return _embedded(where.removeprefix(EMBEDDED), api_key, tls, rest)
    key, source = _key(api_key, where)
    if tls is None:
        tls = _tls_of_environment()
    settings = ConnectionSettings(where, api_key=key, tls=tls, api_key_source=source, **rest)
    return settings, None


def _key(given: str | None, address: str) -> tuple[str, str]:
    if given is not None:
        return given, "the api_key argument"
    key = os.environ.get(KEY_VARIABLE)
    if not key:
        raise AuthenticationError(
            f"no API key for {address}.",
            hint=f"Pass api_key=..., or set {KEY_VARIABLE} (connect('embedded:PATH') needs "
            "neither server nor key).",
            reason="no_api_key",
        )
    return key, KEY_VARIABLE


def _tls_of_environment() -> TLS | bool | None:
    switch = os.environ.get(TLS_VARIABLE, "").strip().lower()
    if switch and switch not in _SWITCH:
        raise InvalidArgumentError(f"{TLS_VARIABLE} must be on or off, got {switch!r}")
    named = {name: os.environ.get(variable) for name, variable in _TLS_VARIABLES.items()}
    if not any(named.values()):
        return _SWITCH.get(switch)
    if switch == "off":
        given = ", ".join(_TLS_VARIABLES[name] for name, value in named.items() if value)
        raise InvalidArgumentError(
            f"{TLS_VARIABLE} is off, and there is {given}: unset one of them"
        )
    return TLS(**{name: value or None for name, value in named.items()})


def _embedded(
    path: str, api_key: str | None, tls: TLS | bool | None, rest: dict[str, Any]
) -> tuple[ConnectionSettings, EmbeddedServerHandle]:
    if not path:
        raise InvalidArgumentError(
            "embedded: needs the path of the database file, such as embedded:jobs.db"
        )
    if api_key is not None or tls:
        what = "api_key" if api_key is not None else "tls"
        raise InvalidArgumentError(
            f"programs of one user share embedded:{path}, and find its key beside it: "
            f"leave {what} out"
        )
    file = _acquired(path)
    try:
        settings = ConnectionSettings(
            file.address,
            api_key=file.api_key,
            tls=False,
            api_key_source=f"the file beside {file.path}",
            file=str(file.path),
            **rest,
        )
    except BaseException:
        file.release()
        raise
    return settings, file


def _acquired(path: str) -> EmbeddedServerHandle:
    # Slow to import, and needed for embedded: alone.
    from spooled_pipelines.client.embedded import acquire

    return acquire(path)
