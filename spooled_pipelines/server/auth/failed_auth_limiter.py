"""Wrong keys are counted per peer, so that nobody tries many of them."""

from __future__ import annotations

import math
from collections import OrderedDict

from spooled_pipelines.server.core.clock import Clock
from spooled_pipelines.server.core.errors import RefusedError

# Peers and keys that are remembered; beyond that the longest unused are forgotten.
_REMEMBERED = 10_000
_MINUTE_MS = 60_000


class FailedAuthLimiter:
    """A bucket of `per_minute` wrong keys for each peer, which fills up again within a minute.

    A key that was right before from the same peer goes on being looked at, however many wrong
    ones others behind the same address try.
    """

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        # How many failures a peer has left, and as of when.
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._known: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def admit(self, peer: str, digest: bytes) -> None:
        """RefusedError RESOURCE_EXHAUSTED with `retry_after` if the peer has failed too often."""
        left, _ = self._bucket(peer)
        if left >= 1 or (peer, digest) in self._known:
            return
        wait = math.ceil((1 - left) * _MINUTE_MS / self._per_minute / 1000)
        raise RefusedError(
            "RESOURCE_EXHAUSTED",
            f"too many wrong API keys from this address; try again in {max(wait, 1)} s",
            retry_after=max(wait, 1),
        )

    def succeeded(self, peer: str, digest: bytes) -> None:
        """The key was right."""
        self._known[peer, digest] = None
        self._known.move_to_end((peer, digest))
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def failed(self, peer: str, digest: bytes) -> None:
        """The key was wrong."""
        self._known.pop((peer, digest), None)
        left, now = self._bucket(peer)
        self._buckets[peer] = (max(left - 1, 0), now)
        self._buckets.move_to_end(peer)
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)

    def _bucket(self, peer: str) -> tuple[float, int]:
        now = self._clock.now()
        left, since = self._buckets.get(peer, (float(self._per_minute), now))
        filled = left + max(now - since, 0) * self._per_minute / _MINUTE_MS
        return min(filled, self._per_minute), now


def peer_host(peer: str) -> str:
    """`ipv4:192.0.2.1:50312` and `ipv6:%5B::1%5D:50312` without the port."""
    return peer.rpartition(":")[0] if peer.startswith("ip") else peer


def peer_of(host: str) -> str:
    """The same of an address as HTTP has it: 192.0.2.1, or ::1."""
    return f"ipv6:%5B{host}%5D" if ":" in host else f"ipv4:{host}"
