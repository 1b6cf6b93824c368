"""Connections of strangers: counted by address, and cut where they ask too much without a key.

gRPC bounds neither. So the sockets of this process are looked up by their peer, and shut: what
still waits on such a connection is gone with it, and costs nothing any longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import resource
import socket
import sys
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import unquote

from spooled_pipelines.server.auth import peer_host
from spooled_pipelines.server.core.clock import Clock
from spooled_pipelines.server.core.lifecycle import Loop, LoopMonitor
from spooled_pipelines.token_bucket import TokenBucket

_log = logging.getLogger(__name__)
# Calls without a good key: of one address so many at once and in a second, and of all.
_BURST, _A_SECOND = 200, 100.0
_TOLD_SECONDS = 60.0
_IN_ALL = 5
_REMEMBERED = 10_000
_LOOK_SECONDS = 1.0
# Shares of the files that the process may open; the rest is for the store and the dashboard.
_OF_FILES, _OF_FILES_PER_ADDRESS = 0.8, 0.25
# Linux has both; elsewhere connections are not counted by address, and none is cut.
_FILES, _TABLES = Path("/proc/self/fd"), (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
# So many files are looked through in a few milliseconds.
_QUICKLY_SEARCHED = 500
_CAN_LOOK = _FILES.is_dir()
_ESTABLISHED = "01"

# An address and a port.
_Peer = tuple[str, int]


def open_files() -> int:
    """Return how many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def connections_in_all(setting: int) -> int:
    """Return how many connections there may be, which leaves files for everything else."""
    return min(setting, int(open_files() * _OF_FILES))


class ConnectionGuard(Loop):
    """Cuts connections: those beyond the bound of an address, and those of insistent strangers."""

    def __init__(
        self, per_address: int, wrong_keys: int, clock: Clock, monitor: LoopMonitor
    ) -> None:
        super().__init__("connection guard", monitor)
        self._burst = _BURST + wrong_keys
        self._per_address = min(per_address, int(open_files() * _OF_FILES_PER_ADDRESS))
        self._clock = clock
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._of_all = TokenBucket(_IN_ALL * _A_SECOND / 1000, _IN_ALL * self._burst, clock.now())
        # Peers that have shown a good key: they are cut last.
        self._known: OrderedDict[str, None] = OrderedDict()
        # Those that are to be cut, and those that were, since the last look.
        self._to_cut: set[_Peer] = set()
        self._cut: set[_Peer] = set()
        self._wanted = asyncio.Event()
        self._shut, self._tell_next_at = 0, 0.0
        # Where the server listens; 0 where it is not an address.
        self.port = 0

    def knows(self, peer: str) -> None:
        """Note that a peer has a good key."""
        if peer not in self._known:
            self._known[peer] = None
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    def stranger(self, peer: str, *, refused: bool = True) -> None:
        """Count a call without a good key, and cut its connection if there were too many.

        One that is refused counts twice: the others are of health, which balancers ask for.
        """
        host, now = peer_host(peer), self._clock.now()
        bucket = self._buckets.get(host)
        if bucket is None:
            bucket = self._buckets[host] = TokenBucket(_A_SECOND / 1000, self._burst, now)
            if len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
        if bucket.available(now) and self._of_all.available(now):
            bucket.take(1 + refused)
            self._of_all.take(1 + refused)
        else:
            self.cut(peer)

    def cut(self, peer: str) -> None:
        """Close a connection, soon."""
        parsed = _parsed(peer)
        if parsed is None or parsed in self._cut or not _CAN_LOOK:
            return
        self._cut.add(parsed)
        if len(os.listdir(_FILES)) <= _QUICKLY_SEARCHED:  # noqa: PTH208  # names are enough
            # At once: each call that still waits on it costs something.
            self._shut += _shut({parsed})
        else:
            self._to_cut.add(parsed)
        self._wanted.set()

    async def _start(self, cleanup: AsyncExitStack) -> None:
        if _CAN_LOOK:
            await super()._start(cleanup)

    async def _work(self) -> None:
        self._wanted.clear()
        peers, self._to_cut = self._to_cut, set()
        if not peers and self.port:
            self._cut.clear()
            peers = await asyncio.to_thread(self._too_many)
        if peers:
            self._shut += await asyncio.to_thread(_shut, peers)
        self._tell()

    async def _wait(self) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._wanted.wait(), _LOOK_SECONDS)

    def _tell(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._shut and now >= self._tell_next_at:
            _log.warning(
                "%d connections were cut that asked too much without a key, or were too many of "
                "one address",
                self._shut,
            )
            self._shut, self._tell_next_at = 0, now + _TOLD_SECONDS

    def _too_many(self) -> set[_Peer]:
        peers = list(_connected(self.port))
        counts = Counter(host for host, _ in peers)
        crowded = {host for host, count in counts.items() if count > self._per_address}
        if not crowded:
            return set()
        known = {_parsed(peer) for peer in tuple(self._known)}
        found: set[_Peer] = set()
        # Those with a good key come last.
        for peer in sorted(peers, key=lambda peer: peer in known):
            if peer[0] in crowded and counts[peer[0]] > self._per_address:
                counts[peer[0]] -= 1
                found.add(peer)
        return found


def _parsed(peer: str) -> _Peer | None:
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


def _connected(port: int) -> Iterator[_Peer]:
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


def _shut(peers: Collection[_Peer]) -> int:
    """Shut the connections of these peers; return how many there were."""
    shut = 0
    for file in _FILES.iterdir():
        with contextlib.suppress(OSError):
            if not file.is_socket():
                continue
            # A copy: gRPC may close its own in the meantime, and the number go to another.
            with socket.fromfd(int(file.name), socket.AF_INET6, socket.SOCK_STREAM) as connection:
                peer = connection.getpeername()
                # A socket of this machine alone has no address.
                if peer and (_plain(peer[0].partition("%")[0]), peer[1]) in peers:
                    connection.shutdown(socket.SHUT_RDWR)
                    shut += 1
    return shut
