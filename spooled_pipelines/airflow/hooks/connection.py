"""Reading an Airflow connection of type `spooled` into the settings of a client.

Host, port and password (the API key) are the connection's own fields; the rest is in its extra:
``tls`` (``auto``, ``on``, ``off``), ``ca``, ``client_certificate``, ``private_key`` (paths of PEM
files, or the PEM itself; Airflow masks an extra of that name), ``server_name``, ``organization``,
``batch_extension`` (``auto``, ``on``, ``off``), ``timeout_seconds`` (how long one call may take)
and ``page`` (the address of the server's status page, for links).
"""

from __future__ import annotations

import re
from textwrap import wrap
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from spooled_pipelines.errors import AuthenticationError, InvalidArgumentError
from spooled_pipelines.rpc.settings import TLS, ConnectionSettings

if TYPE_CHECKING:
    from airflow.sdk import Connection

CONNECTION_TYPE = "spooled"
_SWITCH: dict[Any, bool | None] = {
    **dict.fromkeys((None, "", "auto"), None),
    **dict.fromkeys((True, "on", "true", "1"), True),
    **dict.fromkeys((False, "off", "false", "0"), False),
}
_TIMEOUT_MAX_SECONDS = 3_600.0
# What an extra is in `TLS`.
_TLS_FIELDS = {
    "ca": "ca",
    "client_certificate": "client_certificate",
    "private_key": "client_key",
    "server_name": "server_name",
}
_EXTRAS = (
    *("tls", *_TLS_FIELDS, "organization", "batch_extension", "timeout_seconds", "page"),
    # Airflow's own form and URIs may add it.
    "__extra__",
)
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)


def settings_of(connection: Connection, where: str | None = None) -> ConnectionSettings:
    """Return the settings that an Airflow connection stands for.

    Args:
        connection: the connection.
        where: what to call it in a message; None: by its id.

    Raises:
        InvalidArgumentError: it is of another type, has no host, or a field makes no sense.
        AuthenticationError: it has no password, where the API key belongs.
    """
    where = where or f"the Airflow connection {connection.conn_id!r}"
    if connection.conn_type != CONNECTION_TYPE:
        raise InvalidArgumentError(
            f"{where} is of type {connection.conn_type!r}, not {CONNECTION_TYPE!r}: "
            "choose another connection, or change its type"
        )
    if not connection.host:
        raise InvalidArgumentError(f"{where} has no host: set it to the Spooled server's name")
    if not connection.password:
        raise AuthenticationError(f"{where} has no password: set it to the Spooled API key")
    extra = connection.extra_dejson
    if unknown := sorted(set(extra) - set(_EXTRAS)):
        raise InvalidArgumentError(
            f"{where}: there is no {', '.join(unknown)} among the settings in an extra, which are "
            f"{', '.join(_EXTRAS[:-1])}"
        )
    extension = _switch(extra, "batch_extension", where)
    return ConnectionSettings(
        address=_address(connection.host, connection.port),
        api_key=connection.password,
        tls=_tls(extra, where),
        timeout_seconds=_seconds(extra, where),
        batch_extension="auto" if extension is None else "on" if extension else "off",
        api_key_source=f"the password of {where}",
        address_source=where,
        organization=str(extra["organization"]) if extra.get("organization") else None,
    )


def page_url(connection: Connection, *path: str) -> str:
    """Return an address on the server's status page; empty if the connection names no page."""
    base = str(connection.extra_dejson.get("page") or "").rstrip("/")
    # It becomes a link in Airflow's pages.
    if urlsplit(base).scheme not in ("http", "https"):
        return ""
    return "/".join([base, *(quote(part, safe="") for part in path)])


def _address(host: str, port: int | None) -> str:
    if not port:
        return host
    # IPv6 is written without brackets in a host field, but needs them beside a port.
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _tls(extra: dict[str, Any], where: str) -> TLS | bool | None:
    switch = _switch(extra, "tls", where)
    material = {name: _pem(extra[name]) for name in _TLS_FIELDS if extra.get(name)}
    if not material:
        return switch
    if switch is False:
        raise InvalidArgumentError(
            f"{where} has tls=off and {', '.join(material)} in its extra: clear one or the other"
        )
    return TLS(**{_TLS_FIELDS[name]: value for name, value in material.items()})


def _pem(value: Any) -> Any:
    """Return a PEM with its line breaks, of which a form's field of one line has made blanks."""
    if not isinstance(value, str) or "\n" in value.strip():
        return value
    blocks = [
        "\n".join([f"-----BEGIN {label}-----", *_lines(body), f"-----END {label}-----\n"])
        for label, body in _PEM.findall(value)
    ]
    return "".join(blocks) or value


def _lines(body: str) -> list[str]:
    return wrap("".join(body.replace("\\n", " ").split()), 64)


def _switch(extra: dict[str, Any], name: str, where: str) -> bool | None:
    value = extra.get(name)
    word = value.strip().lower() if isinstance(value, str) else value
    if isinstance(word, (dict, list)) or word not in _SWITCH:
        raise InvalidArgumentError(
            f"{where}: {name} in its extra must be auto, on or off, got {value!r}"
        )
    return _SWITCH[word]


def _seconds(extra: dict[str, Any], where: str) -> float:
    value = extra.get("timeout_seconds")
    if value in (None, ""):
        return ConnectionSettings.timeout_seconds
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds <= _TIMEOUT_MAX_SECONDS:
        raise InvalidArgumentError(
            f"{where}: timeout_seconds in its extra must be more than 0 and at most "
            f"{_TIMEOUT_MAX_SECONDS:g}, got {value!r}"
        )
    return seconds
