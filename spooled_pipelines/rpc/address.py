"""Server addresses: what people write, as gRPC takes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address

from spooled_pipelines.errors import InvalidArgumentError

DEFAULT_ADDRESS = "localhost:50051"
DEFAULT_PORT = 50051
CLOUD_SUFFIX = ".spooled.cloud"
CLOUD_PORT = 443
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_SCHEMES_WITH_HOST = ("dns:", "ipv4:", "ipv6:")
# The schemes of which one target may name several servers.
_LISTS = {4: "ipv4", 6: "ipv6"}
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
        is_many: it may stand for several servers, so that calls are spread over all of them.
    """

    text: str
    target: str
    is_local: bool
    is_many: bool = False

    def __str__(self) -> str:
        return self.text


def parse_address(text: str) -> Address:
    """Parse ``host``, ``host:port``, ``[::1]:50051``, ``dns:///host:port`` or ``unix:/path``.

    Without a port it is 50051, and 443 for hosts of Spooled Cloud. Several servers are a name in
    DNS that has all of their addresses (``dns:///host:port``), or their IP addresses with commas
    between them (``10.0.0.1:50051,10.0.0.2:50051``).

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
    if "," in given:
        return _several(given)
    for scheme in _SCHEMES_WITH_HOST:
        if given.startswith(scheme):
            prefix, _, endpoint = given.rpartition("/")
            if not prefix:
                prefix, endpoint = scheme.removesuffix(":"), given.removeprefix(scheme)
                joint = ":"
            else:
                joint = "/"
            host, port = _split(endpoint, text)
            found = _tcp(host, port, prefix=prefix + joint)
            return replace(found, is_many=scheme == "dns:")
    host, port = _split(given, text)
    if f"{host.lower()}:" in (*_SCHEMES_WITH_HOST, *_UNIX_SCHEMES):
        # gRPC would take the name for a scheme, and the port for a path.
        raise _wrong(text, f"a host of this name is written dns:///{host}:{port}")
    return _tcp(host, port, prefix="")


def _several(given: str) -> Address:
    """Return a list of IP addresses of one kind, as gRPC takes it."""
    listed = given.partition(":")[2] if given.startswith(("ipv4:", "ipv6:")) else given
    found = [_tcp(*_split(one.strip(), given), prefix="") for one in listed.split(",")]
    kinds = {_ip_version(one.target.rpartition(":")[0].strip("[]"), given) for one in found}
    if len(kinds) > 1:
        raise _wrong(given, "addresses of IPv4 and of IPv6 cannot be in one list")
    text = ",".join(one.text for one in found)
    return Address(
        text=text,
        target=f"{_LISTS[kinds.pop()]}:{text}",
        is_local=all(one.is_local for one in found),
        is_many=True,
    )


def _ip_version(host: str, given: str) -> int:
    try:
        return ip_address(host).version
    except ValueError:
        raise _wrong(
            given,
            f"{host!r} is not an IP address, and a list is of these; for names let one name in "
            "DNS have all addresses, and write dns:///NAME:PORT",
        ) from None


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
        raise _wrong(given, f"the port must be a number from 1 to 65535, got {port_text!r}")
    return host, int(port_text)


def _wrong(given: str, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"not a server address: {given!r}: {why}. Example: localhost:50051")
