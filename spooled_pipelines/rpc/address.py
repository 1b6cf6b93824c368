"""Where a server is: what people write, turned into what gRPC takes."""

from __future__ import annotations

from dataclasses import dataclass

from spooled_pipelines.errors import InvalidArgumentError

DEFAULT_ADDRESS = "localhost:50051"
DEFAULT_PORT = 50051
CLOUD_SUFFIX = ".spooled.cloud"
CLOUD_PORT = 443
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_SCHEMES_WITH_HOST = ("dns:", "ipv4:", "ipv6:")
_UNIX_SCHEMES = ("unix:", "unix-abstract:")
_WEB_SCHEMES = ("http://", "https://", "grpc://", "grpcs://")


@dataclass(frozen=True)
class Address:
    """One server address.

    Attributes:
        text: what people read, such as ``localhost:50051`` or ``unix:/run/spooled.sock``.
        target: what gRPC takes.
        is_local: this machine only (localhost, 127.0.0.1, [::1] or a unix socket), so that TLS
            is off unless asked for.
    """

    text: str
    target: str
    is_local: bool

    def __str__(self) -> str:
        return self.text


def parse_address(text: str) -> Address:
    """Reads ``host``, ``host:port``, ``[::1]:50051``, ``dns:///host:port`` or ``unix:/path``.

    Without a port it is 50051, and 443 for hosts of Spooled Cloud.

    Raises:
        InvalidArgumentError: it is none of these; the message says what is wrong with it.
    """
    given = text.strip()
    if not given:
        raise InvalidArgumentError(
            "the server address is empty: give one such as localhost:50051, or leave it out"
        )
    for scheme in _WEB_SCHEMES:
        if given.startswith(scheme):
            raise _wrong(text, f"write it without {scheme} (TLS is said by tls=True or False)")
    if given.startswith(_UNIX_SCHEMES):
        if given.partition(":")[2] in ("", "//"):
            raise _wrong(text, "the path of the socket is missing")
        return Address(text=given, target=given, is_local=True)
    for scheme in _SCHEMES_WITH_HOST:
        if given.startswith(scheme):
            prefix, _, endpoint = given.rpartition("/")
            if not prefix:
                prefix, endpoint = scheme.removesuffix(":"), given.removeprefix(scheme)
                joint = ":"
            else:
                joint = "/"
            host, port = _split(endpoint, text)
            return _tcp(host, port, prefix=prefix + joint)
    return _tcp(*_split(given, text), prefix="")


def _tcp(host: str, port: int, *, prefix: str) -> Address:
    endpoint = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Address(text=endpoint, target=prefix + endpoint, is_local=host.lower() in _LOCAL_HOSTS)


def _split(endpoint: str, given: str) -> tuple[str, int]:
    port_text = ""
    if endpoint.startswith("["):
        host, bracket, rest = endpoint[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise _wrong(given, "an IPv6 address with a port looks like [::1]:50051")
        if rest:
            port_text = rest[1:]
            if not port_text:
                raise _wrong(given, "the port behind the colon is missing")
    elif endpoint.count(":") > 1:
        host = endpoint
    else:
        host, colon, port_text = endpoint.partition(":")
        if colon and not port_text:
            raise _wrong(given, "the port behind the colon is missing")
    if not host:
        raise _wrong(given, "the host is missing")
    if any(sign.isspace() or sign in "/@?#" for sign in host):
        raise _wrong(given, f"{host!r} is not a host name")
    if not port_text:
        cloud = host.lower().endswith(CLOUD_SUFFIX)
        return host, CLOUD_PORT if cloud else DEFAULT_PORT
    if not (port_text.isascii() and port_text.isdigit() and 1 <= int(port_text) <= 65535):
        raise _wrong(given, f"the port is {port_text!r}, and must be a number from 1 to 65535")
    return host, int(port_text)


def _wrong(given: str, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"not a server address: {given!r}: {why}. Example: localhost:50051")
