"""An Airflow connection of type `spooled`, read into the settings of our clients.

Host, port and password (the API key) are the connection's own fields; the rest is in its extra:
``tls`` (``auto``, ``on``, ``off``), ``ca``, ``client_certificate``, ``client_key`` (paths of PEM
files, or the PEM itself) and ``server_name``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spooled_pipelines.errors import AuthenticationError, InvalidArgumentError
from spooled_pipelines.rpc.settings import TLS, ConnectionSettings

if TYPE_CHECKING:
    from airflow.sdk import Connection

CONNECTION_TYPE = "spooled"
_TLS_WORDS: dict[Any, bool | None] = {
    **dict.fromkeys((None, "", "auto"), None),
    **dict.fromkeys((True, "on", "true", "1"), True),
    **dict.fromkeys((False, "off", "false", "0"), False),
}
_TLS_FIELDS = ("ca", "client_certificate", "client_key", "server_name")


def settings_of(connection: Connection) -> ConnectionSettings:
    """The settings that an Airflow connection stands for.

    Raises:
        InvalidArgumentError: it is of another type, has no host, or a field makes no sense.
        AuthenticationError: it has no password, where the API key belongs.
    """
    where = f"the Airflow connection {connection.conn_id!r}"
    if connection.conn_type != CONNECTION_TYPE:
        raise InvalidArgumentError(
            f"{where} is of type {connection.conn_type!r}, not {CONNECTION_TYPE!r}: "
            "choose another connection, or change its type"
        )
    if not connection.host:
        raise InvalidArgumentError(f"{where} has no host: set it to the Spooled server's name")
    if not connection.password:
        raise AuthenticationError(f"{where} has no password: set it to the Spooled API key")
    return ConnectionSettings(
        address=_address(connection.host, connection.port),
        api_key=connection.password,
        tls=_tls(connection.extra_dejson, where),
        api_key_source=f"the password of {where}",
    )


def _address(host: str, port: int | None) -> str:
    if not port:
        return host
    # IPv6 is written without brackets in a host field, but needs them beside a port.
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _tls(extra: dict[str, Any], where: str) -> TLS | bool | None:
    said = extra.get("tls")
    word = said.strip().lower() if isinstance(said, str) else said
    if isinstance(word, (dict, list)) or word not in _TLS_WORDS:
        raise InvalidArgumentError(f"{where} has tls={said!r} in its extra: say auto, on or off")
    wanted = _TLS_WORDS[word]
    material = {name: extra[name] for name in _TLS_FIELDS if extra.get(name)}
    if not material:
        return wanted
    if wanted is False:
        raise InvalidArgumentError(
            f"{where} has tls=off and {', '.join(material)} in its extra: clear one or the other"
        )
    return TLS(**material)
