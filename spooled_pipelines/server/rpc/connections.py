"""Connections: counted by address, and cut where they ask too much without a key, or hold too much.

gRPC bounds neither. So the sockets of this process are looked up by their peer, and shut: what
still waits on such a connection is gone with it, and costs nothing any longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from collections import Counter, OrderedDict
from contextlib import AsyncExitStack

from spooled_pipelines.server.auth import peer_host
from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.server.core.runtime.lifecycle import Loop, LoopMonitor
from spooled_pipelines.server.rpc import peer_sockets
from spooled_pipelines.server.rpc.peer_sockets import CAN_LOOK, Peer
from spooled_pipelines.server.rpc.unread_bytes import (
    CALL_BYTES,
    MESSAGE_BYTES,
    Connection,
    UnreadBytes,
)
from spooled_pipelines.token_bucket import TokenBucket

_log = logging.getLogger(__name__)
# Calls without a good key: of one address so many at once and in a second, and of all.
_BURST, _A_SECOND = 200, 100.0
# Calls with a good key that are given up as soon as they begin: of one organization so many at once
# and in a second.
_GIVEN_UP_BURST, _GIVEN_UP_A_SECOND = 500, 100.0
_TOLD_SECONDS = 60.0
_IN_ALL = 5
_REMEMBERED = 10_000
# Shares of the files that the process may open; the rest is for the store and the dashboard.
_OF_FILES, _OF_FILES_PER_ADDRESS = 0.8, 0.25
# So many files are looked through in a few milliseconds.
_QUICKLY_SEARCHED = 500
# How often it is looked whether much arrived since the last look.
_TICKS, _TICK_SECONDS = 10, 0.1


def open_files() -> int:
    """Return how many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def connections_in_all(setting: int) -> int:
    """Return how many connections there may be, which leaves files for everything else."""
    return min(setting, int(open_files() * _OF_FILES))


class ConnectionGuard(Loop):
    """Cuts connections: those beyond the bound of an address, and those that ask too much."""

    def __init__(
        self, per_address: int, wrong_keys: int, clock: Clock, monitor: LoopMonitor
    ) -> None:
        super().__init__("connection guard", monitor)
        self._burst = _BURST + wrong_keys
        self._per_address = min(per_address, int(open_files() * _OF_FILES_PER_ADDRESS))
        self._clock = clock
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._given_up: OrderedDict[str, TokenBucket] = OrderedDict()
        self._of_all = TokenBucket(_IN_ALL * _A_SECOND / 1000, _IN_ALL * self._burst, clock.now())
        # Peers that have shown a good key: they are cut last.
        self._known: OrderedDict[str, Connection] = OrderedDict()
        self._unread = UnreadBytes()
        # Those that are to be cut, and those that were, since the last look.
        self._to_cut: set[Peer] = set()
        self._cut: set[Peer] = set()
        self._wanted = asyncio.Event()
        self._shut, self._tell_next_at = 0, 0.0
        # Where the server listens; 0 where it is not an address.
        self.port = 0

    def knows(self, peer: str, organization: str, metadata_bytes: int) -> None:
        """Note that a peer has a good key, and made a call with so much metadata."""
        connection = self._known.get(peer)
        if connection is None:
            address = peer_sockets.parsed(peer)
            connection = self._known[peer] = Connection(address, organization)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        connection.read += metadata_bytes + CALL_BYTES

    def was_read(self, peer: str, size: int) -> None:
        """Note that a message of a peer with a good key was read and has its place in memory."""
        connection = self._known.get(peer)
        if connection is not None:
            connection.read += size + MESSAGE_BYTES

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

    def gave_up(self, peer: str, organization: str) -> None:
        """Count a call that its client gave up at once, or of which there is none by that name.

        They cost the server what a call costs, and the client next to nothing: after too many, the
        connection is cut.
        """
        now, bucket = self._clock.now(), self._given_up.get(organization)
        if bucket is None:
            bucket = TokenBucket(_GIVEN_UP_A_SECOND / 1000, _GIVEN_UP_BURST, now)
            self._given_up[organization] = bucket
            if len(self._given_up) > _REMEMBERED:
                self._given_up.popitem(last=False)
        if bucket.available(now):
            bucket.take(1)
        else:
            self.cut(peer)

    def cut(self, peer: str) -> None:
        """Close a connection, soon."""
        parsed = peer_sockets.parsed(peer)
        if parsed is None or parsed in self._cut or not CAN_LOOK:
            return
        self._cut.add(parsed)
        if peer_sockets.open_now() <= _QUICKLY_SEARCHED:
            # At once: each call that still waits on it costs something.
            self._shut += peer_sockets.shut({parsed})
        else:
            self._to_cut.add(parsed)
        self._wanted.set()

    def has_cut(self, peer: str) -> bool:
        """Return whether a connection was cut a moment ago: its calls are still coming."""
        return bool(self._cut) and peer_sockets.parsed(peer) in self._cut

    async def _start(self, cleanup: AsyncExitStack) -> None:
        if CAN_LOOK:
            await super()._start(cleanup)

    async def _work(self) -> None:
        self._wanted.clear()
        peers, self._to_cut = self._to_cut, set()
        if not peers and self.port:
            self._cut.clear()
            connections = {each.address: each for each in self._known.values() if each.address}
            peers = await asyncio.to_thread(self._too_many)
            peers |= await asyncio.to_thread(self._unread.too_many, connections)
        if peers:
            self._shut += await asyncio.to_thread(peer_sockets.shut, peers)
        self._tell()

    async def _wait(self) -> None:
        for _ in range(_TICKS):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), _TICK_SECONDS)
                return
            if self.port and self._unread.have_grown():
                return

    def _tell(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._shut and now >= self._tell_next_at:
            _log.warning(
                "%d connections were cut that asked too much without a key, gave up too many "
                "calls, were too many of one address, or sent too much that could not be read",
                self._shut,
            )
            self._shut, self._tell_next_at = 0, now + _TOLD_SECONDS

    def _too_many(self) -> set[Peer]:
        # The kernel's tables list the whole machine's connections, and take long to read.
        if peer_sockets.open_now() <= self._per_address:
            return set()
        peers = list(peer_sockets.connected(self.port))
        counts = Counter(host for host, _ in peers)
        crowded = {host for host, count in counts.items() if count > self._per_address}
        if not crowded:
            return set()
        known = {peer_sockets.parsed(peer) for peer in tuple(self._known)}
        found: set[Peer] = set()
        # Those with a good key come last.
        for peer in sorted(peers, key=lambda peer: peer in known):
            if peer[0] in crowded and counts[peer[0]] > self._per_address:
                counts[peer[0]] -= 1
                found.add(peer)
        return found
