"""The limit of wrong API keys for each peer, so that nobody can guess one."""

from __future__ import annotations

import math
from collections import OrderedDict

from spooled_pipelines.server.core.clock import Clock
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.token_bucket import TokenBucket

# Peers and keys that are remembered; beyond that the longest unused are forgotten.
_REMEMBERED = 10_000
_MINUTE_MS = 60_000


class FailedAuthLimiter:
    """A bucket of `per_minute` wrong keys for each peer, which fills up again within a minute.

    A key that was right before is still accepted from the same peer, however many wrong keys others
    behind the same address try.
    """

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        # How many failures a peer has left, where it has failed.
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._known: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def admit(self, peer: str, digest: bytes) -> None:
        """Raise RefusedError RESOURCE_EXHAUSTED if the peer failed too often."""
        bucket = self._buckets.get(peer)
        if bucket is None or bucket.available(self._clock.now()) or (peer, digest) in self._known:
            return
        wait = max(1, math.ceil(bucket.time_until_one() / 1000))
        raise RefusedError(
            "RESOURCE_EXHAUSTED",
            f"too many wrong API keys from this address; try again in {wait} s",
            retry_after=wait,
        )

    def succeeded(self, peer: str, digest: bytes) -> None:
        """Note that the key was right."""
        self._known[peer, digest] = None
        self._known.move_to_end((peer, digest))
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def failed(self, peer: str, digest: bytes) -> None:
        """Note that the key was wrong."""
        self._known.pop((peer, digest), None)
        now = self._clock.now()
        bucket = self._buckets.get(peer)
        if bucket is None:
            rate = self._per_minute / _MINUTE_MS
            bucket = self._buckets[peer] = TokenBucket(rate, burst=self._per_minute, now=now)
        if bucket.available(now):
            bucket.take()
        self._buckets.move_to_end(peer)
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)


def peer_host(peer: str) -> str:
    """Return `ipv4:192.0.2.1:50312` or `ipv6:%5B::1%5D:50312` without the port."""
    return peer.rpartition(":")[0] if peer.startswith("ip") else peer


def peer_of(host: str) -> str:
    """Return the peer of an address as HTTP has it: 192.0.2.1, or ::1."""
    return f"ipv6:%5B{host}%5D" if ":" in host else f"ipv4:{host}"
