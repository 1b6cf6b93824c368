"""What arrived on connections and was not read yet: half messages, and calls that wait.

gRPC keeps it, whatever a client sends, and does not say how much it is. So the kernel is asked what
arrived on each connection, and what was read from there is taken off.
"""

from __future__ import annotations

import resource
import socket
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from spooled_pipelines.server.rpc.peer_sockets import CAN_LOOK, Peer, sockets

# Of one organization; beyond that its connections are closed that hold most.
HELD_MAX_BYTES = 256 << 20
# What comes with a call and with each message beside them: frames, and records of TLS.
CALL_BYTES, MESSAGE_BYTES = 1 << 10, 256
# So much more memory of the process is a reason to look at once.
_GROWN_BYTES = 16 << 20
_MEMORY, _PAGE_BYTES = Path("/proc/self/statm"), resource.getpagesize()
# tcpi_bytes_received in Linux' struct tcp_info, a number of 64 bits; since Linux 4.1.
_RECEIVED_AT, _RECEIVED = 128, struct.Struct("@Q")


@dataclass(slots=True)
class Connection:
    """A connection that has shown a good key, and how much was read from it."""

    # None where it has none, such as a socket of this machine alone.
    address: Peer | None
    organization: str
    read: int = 0


class _Seen(NamedTuple):
    received: int
    read: int
    held: int


_NOTHING = _Seen(0, 0, 0)


class UnreadBytes:
    """What is held of each connection, as far as `too_many` saw it."""

    def __init__(self) -> None:
        self._seen: dict[Peer, _Seen] = {}
        self._memory = 0
        self._least_memory = _resident()

    def have_grown(self) -> bool:
        """Return whether the process has much more memory than at the last look."""
        return _resident() - self._memory > _GROWN_BYTES

    def too_many(self, connections: Mapping[Peer, Connection]) -> set[Peer]:
        """Return the connections to close, of organizations of which too much is held."""
        self._memory = _resident()
        self._least_memory = min(self._least_memory, self._memory)
        seen = {}
        for peer, received in _received(connections):
            read, before = connections[peer].read, self._seen.get(peer, _NOTHING)
            if received < before.received:
                before = _NOTHING
            held = before.held + received - before.received - (read - before.read)
            seen[peer] = _Seen(received, read, max(held, 0))
        # Nothing is kept of a call that ended unread, so that calls hold no more than there is.
        share = (self._memory - self._least_memory) / max(sum(one.held for one in seen.values()), 1)
        if share < 1:
            seen = {peer: one._replace(held=int(one.held * share)) for peer, one in seen.items()}
        self._seen = seen
        of = Counter[str]()
        for peer, one in seen.items():
            of[connections[peer].organization] += one.held
        found = set()
        crowded = {name for name, held in of.items() if held > HELD_MAX_BYTES}
        if crowded:
            for peer in sorted(seen, key=lambda peer: seen[peer].held, reverse=True):
                name = connections[peer].organization
                if name in crowded and of[name] > HELD_MAX_BYTES // 2:
                    of[name] -= seen[peer].held
                    found.add(peer)
        return found


def _received(connections: Mapping[Peer, Connection]) -> Iterator[tuple[Peer, int]]:
    """Yield how much arrived on each of these that is still open."""
    size = _RECEIVED_AT + _RECEIVED.size
    for peer, connection in sockets():
        if peer in connections:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
            if len(info) == size:
                yield peer, _RECEIVED.unpack_from(info, _RECEIVED_AT)[0]


def _resident() -> int:
    """Return how much memory this process has; 0 where no kernel tells it so, as on macOS."""
    if not CAN_LOOK:
        return 0
    return int(_MEMORY.read_text().split()[1]) * _PAGE_BYTES
