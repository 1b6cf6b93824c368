"""The sockets of this process, by the peer that each is connected to."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import unquote

# Linux has both; elsewhere connections are not counted, and none is cut.
_FILES, _TABLES = Path("/proc/self/fd"), (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
CAN_LOOK = _FILES.is_dir()
_ESTABLISHED = "01"

# An address and a port.
Peer = tuple[str, int]


def open_now() -> int:
    """Return how many files this process has open."""
    return len(os.listdir(_FILES))  # noqa: PTH208  # names are enough


def parsed(peer: str) -> Peer | None:
    """Return `ipv4:192.0.2.1:50312` or `ipv6:%5B::1%5D:50312` as address and port."""
    kind, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdigit():
        return None
    return _plain(host.strip("[]").partition("%")[0]), int(port)


def _plain(host: str) -> str:
    address = ipaddress.ip_address(host)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def connected(port: int) -> Iterator[Peer]:
    """Yield the peers of the connections to this port."""
    for table in _TABLES:
        if not table.exists():
            continue
        for line in table.read_text().splitlines()[1:]:
            _, local, remote, state = line.split(maxsplit=4)[:4]
            if state == _ESTABLISHED and int(local.rpartition(":")[2], 16) == port:
                host, _, remote_port = remote.rpartition(":")
                yield _plain(_host_of(host)), int(remote_port, 16)


def _host_of(digits: str) -> str:
    """Return an address as the kernel's table has it: numbers of 32 bits."""
    words = (int(digits[at : at + 8], 16) for at in range(0, len(digits), 8))
    return str(ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words)))


def sockets() -> Iterator[tuple[Peer, socket.socket]]:
    """Yield the sockets of this process and their peers."""
    for file in _FILES.iterdir():
        with contextlib.suppress(OSError):
            if not file.is_socket():
                continue
            # A copy: gRPC may close its own in the meantime, and the number go to another.
            with socket.fromfd(int(file.name), socket.AF_INET6, socket.SOCK_STREAM) as connection:
                peer = connection.getpeername()
                # A socket of this machine alone has no address.
                if peer and not isinstance(peer, str | bytes):
                    yield (_plain(peer[0].partition("%")[0]), peer[1]), connection


def shut(peers: Collection[Peer]) -> int:
    """Shut the connections of these peers; return how many there were."""
    count = 0
    for peer, connection in sockets():
        if peer in peers:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
                count += 1
    return count
