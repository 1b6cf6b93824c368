"""Is a server there at all: its name, its port, its certificate. Without gRPC, which tells less."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from spooled_pipelines.rpc.settings import TLS, ConnectionSettings

_DAY_SECONDS = 86_400
_EXPIRES_SOON_DAYS = 14


@dataclass(frozen=True)
class Found:
    """What a look found; see `examine.Step`."""

    state: str
    text: str
    advice: str = ""


class Endpoint(NamedTuple):
    """One of the servers that an address names; without a host it is a socket of this machine."""

    name: str
    host: str | None
    port: int


def endpoints(settings: ConnectionSettings) -> list[Endpoint]:
    """Every server that the address names."""
    address = settings.endpoint
    if address.target.startswith("unix"):
        return [Endpoint(address.text, None, 0)]
    found = []
    for name in address.text.split(","):
        host, _, port = name.strip().rpartition(":")
        found.append(Endpoint(name, host.strip("[]"), int(port)))
    return found


def resolve(endpoint: Endpoint) -> Found:
    """The addresses of the host."""
    name, host, port = endpoint
    if host is None:
        return Found("skipped", f"{name} is a socket of this machine")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Found(
            "failed",
            f"there is no host {host} as far as this machine knows ({reason})",
            "look for a typing error, and at the network's DNS",
        )
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    return Found("ok", f"{host} is {', '.join(addresses)}")


def reach(endpoint: Endpoint, settings: ConnectionSettings, timeout: float) -> Found:
    """Whether anybody listens."""
    began = time.perf_counter()
    try:
        _connect(endpoint, timeout).close()
    except OSError as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else error.strerror
        start = (
            f"start it: spooled-pipelines serve --listen {endpoint.name}"
            if settings.endpoint.is_local
            else "check the port, that the server runs, and that no firewall is in the way"
        )
        return Found("failed", f"nobody takes a connection at {endpoint.name} ({reason})", start)
    return Found(
        "ok",
        f"{endpoint.name} takes connections, within {(time.perf_counter() - began) * 1000:,.0f} ms",
    )


def shake_hands(endpoint: Endpoint, settings: ConnectionSettings, timeout: float) -> Found:
    """The certificate that is shown, checked as a client would."""
    material = settings.tls_material
    if material is None:
        if endpoint.host is not None and _speaks_tls(endpoint, timeout):
            return Found(
                "failed",
                f"{endpoint.name} speaks TLS, and this client does not",
                "tls = true in the profile (and tls_ca where its certificate is your own), or a "
                "name that is not of this machine",
            )
        if settings.endpoint.is_local:
            return Found("ok", "off, as it should be on this machine alone")
        return Found("warning", "off: key and payloads can be read on the way", "serve --tls-cert")
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
        return Found(
            "failed",
            f"the certificate of {endpoint.name} is not trusted: {error.verify_message}",
            "name who signed it (tls_ca in the profile, TLS(ca=...)), or use the name in it",
        )
    except ssl.SSLError as error:
        return Found(
            "failed",
            f"no TLS with {endpoint.name}: {error.reason or error}",
            "if it is meant to be plain: tls = false in the profile, or tls=False; it may also "
            "ask for a client certificate",
        )
    except OSError as error:
        return Found("failed", f"the TLS handshake with {endpoint.name} broke off: {error}")
    if protocol != "h2":
        return Found(
            "failed",
            f"{endpoint.name} speaks TLS, but no HTTP/2: gRPC needs it",
            "is this the port of a web server, or a proxy that speaks HTTP/1.1 alone?",
        )
    days = (ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / _DAY_SECONDS
    text = f"{version}, the certificate of {name} is trusted for {days:,.0f} days more"
    if days < _EXPIRES_SOON_DAYS:
        return Found("warning", text, "renew it: the server reads it again by itself")
    return Found("ok", text)


def _speaks_tls(endpoint: Endpoint, timeout: float) -> bool:
    """Whether a handshake comes to its end; whom with is not looked at, and nothing is said."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with _connect(endpoint, timeout) as plain, context.wrap_socket(plain):
            return True
    except OSError as error:
        # It asks for a certificate of the client's: so it speaks TLS.
        return isinstance(error, ssl.SSLError) and "CERTIFICATE_REQUIRED" in (error.reason or "")


def _context(material: TLS) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if material.ca is not None:
        context = ssl.create_default_context(cadata=_pem(material.ca).decode("ascii"))
    if material.client_certificate is not None and material.client_key is not None:
        # Material that is in memory alone is for gRPC; here it is a file, as profiles name it.
        context.load_cert_chain(str(material.client_certificate), str(material.client_key))
    context.set_alpn_protocols(["h2"])
    return context


def _pem(source: str | Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else Path(source).read_bytes()


def _connect(endpoint: Endpoint, timeout: float) -> socket.socket:
    if endpoint.host is not None:
        return socket.create_connection((endpoint.host, endpoint.port), timeout)
    scheme, _, path = endpoint.name.partition(":")
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(timeout)
    try:
        made.connect("\0" + path if scheme == "unix-abstract" else path.removeprefix("//"))
    except BaseException:
        made.close()
        raise
    return made
