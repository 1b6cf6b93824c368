"""The network checks of `doctor`: name, port and certificate, without gRPC, which says less."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from spooled_pipelines.cli.error_output import HINTS
from spooled_pipelines.rpc.connection_diagnosis import PROBLEMS, how_to_start

if TYPE_CHECKING:
    from spooled_pipelines.rpc.settings import TLS, ConnectionSettings

_DAY_SECONDS = 86_400
# OpenSSL's codes for a certificate that is for another host name or IP address.
_WRONG_NAME = (62, 64)
_EXPIRES_SOON_DAYS = 14


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; see `doctor_checks.Step`."""

    state: str
    text: str
    advice: str = ""


class Endpoint(NamedTuple):
    """A server that an address names; without a host it is a socket of this machine."""

    name: str
    host: str | None
    port: int


def endpoints(settings: ConnectionSettings) -> list[Endpoint]:
    """Return every server that the address names."""
    address = settings.endpoint
    if address.target.startswith("unix"):
        return [Endpoint(address.text, None, 0)]
    servers = []
    for name in address.text.split(","):
        host, _, port = name.strip().rpartition(":")
        servers.append(Endpoint(name, host.strip("[]"), int(port)))
    return servers


def resolve(endpoint: Endpoint) -> Finding:
    """Look up the addresses of the host."""
    name, host, port = endpoint
    if host is None:
        return Finding("skipped", f"{name} is a socket of this machine")
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return _failed("no_such_host", host, reason)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in infos))
    return Finding("ok", f"{host} is {', '.join(addresses)}")


def reach(endpoint: Endpoint, settings: ConnectionSettings, timeout: float) -> Finding:
    """Check whether something listens on the port."""
    began = time.perf_counter()
    try:
        _connect(endpoint, timeout).close()
    except OSError as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else error.strerror
        return _failed("unreachable", endpoint.name, reason, how_to_start(settings))
    return Finding(
        "ok",
        f"{endpoint.name} takes connections, within {(time.perf_counter() - began) * 1000:,.0f} ms",
    )


def shake_hands(endpoint: Endpoint, settings: ConnectionSettings, timeout: float) -> Finding:
    """Check the certificate as a client would."""
    material = settings.tls_material
    if material is None:
        if endpoint.host is not None and _speaks_tls(endpoint, timeout):
            return _failed("client_without_tls", endpoint.name)
        if settings.endpoint.is_local:
            return Finding("ok", "off, which is fine within this machine")
        return Finding(
            "warning", "off: key and payloads can be read on the way", "serve with --tls-cert"
        )
    name = material.server_name or endpoint.host or "localhost"
    try:
        context = _context(material)
        with (
            _connect(endpoint, timeout) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            certificate: Any = secure.getpeercert()
            version, protocol = secure.version(), secure.selected_alpn_protocol()
    except ssl.SSLCertVerificationError as error:
        wrong_name = error.verify_code in _WRONG_NAME
        reason = "tls_name" if wrong_name else "tls_untrusted"
        return _failed(reason, endpoint.name, error.verify_message)
    except ssl.SSLError as error:
        wrong_version = error.reason == "WRONG_VERSION_NUMBER"
        reason = "server_without_tls" if wrong_version else "tls_handshake"
        return _failed(reason, endpoint.name, error.reason or str(error))
    except OSError as error:
        return _failed("tls_handshake", endpoint.name, str(error))
    if protocol != "h2":
        return _failed("not_grpc", endpoint.name, "TLS without HTTP/2")
    days = (ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / _DAY_SECONDS
    text = f"{version}, the certificate of {name} is trusted for another {days:,.0f} days"
    if days < _EXPIRES_SOON_DAYS:
        return Finding("warning", text, "renew it; the server reads the new file by itself")
    return Finding("ok", text)


def _failed(reason: str, name: str, text: str | None = None, hint: str = "") -> Finding:
    problem = f"{name} {PROBLEMS[reason]}"
    return Finding(
        "failed", f"{problem} ({text})" if text else problem, hint or HINTS.get(reason, "")
    )


def _speaks_tls(endpoint: Endpoint, timeout: float) -> bool:
    """Return whether a TLS handshake succeeds, without checking whose certificate it is."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with _connect(endpoint, timeout) as plain, context.wrap_socket(plain):
            return True
    except OSError as error:
        # It requires a client certificate, so it speaks TLS.
        return isinstance(error, ssl.SSLError) and "CERTIFICATE_REQUIRED" in (error.reason or "")


def _context(material: TLS) -> ssl.SSLContext:
    ca = material.read_pem("ca")
    context = ssl.create_default_context(cadata=None if ca is None else ca.decode("ascii"))
    if material.client_certificate is not None and material.client_key is not None:
        # Profiles name files; certificates in memory are for the Python client only.
        context.load_cert_chain(str(material.client_certificate), str(material.client_key))
    context.set_alpn_protocols(["h2"])
    return context


def _connect(endpoint: Endpoint, timeout: float) -> socket.socket:
    if endpoint.host is not None:
        return socket.create_connection((endpoint.host, endpoint.port), timeout)
    scheme, _, path = endpoint.name.partition(":")
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout)
    try:
        connection.connect("\0" + path if scheme == "unix-abstract" else path.removeprefix("//"))
    except BaseException:
        connection.close()
        raise
    return connection
