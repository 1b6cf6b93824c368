"""The settings of a connection, from the fields that a form of an orchestrator has."""

from __future__ import annotations

from typing import Any, Literal

from spooled_pipelines.rpc.settings import TLS, ConnectionSettings


def server_settings(
    host: str,
    port: int,
    *,
    api_key: str,
    api_key_source: str,
    tls: Literal["auto", "on", "off"],
    certificates: dict[str, str | None],
    **others: Any,
) -> ConnectionSettings:
    """Return the settings that the fields stand for.

    Args:
        host: a name or an IP address, of IPv6 with or without brackets.
        certificates: fields of `TLS`; empty texts, as forms give them, count as left out.
        port, api_key, api_key_source, tls, others: as of `ConnectionSettings`.

    Raises:
        InvalidArgumentError: a field makes no sense; the message says which and why.
    """
    given = {name: value or None for name, value in certificates.items()}
    switch: TLS | bool | None = {"auto": None, "on": True, "off": False}[tls]
    if switch is not False and any(given.values()):
        switch = TLS(**given)
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return ConnectionSettings(
        f"{shown}:{port}", api_key=api_key, api_key_source=api_key_source, tls=switch, **others
    )
