"""The limit of wrong API keys, for each peer and for all: a key that is right is never kept out."""

from __future__ import annotations

import math
from collections import OrderedDict
from urllib.parse import unquote

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.token_bucket import TokenBucket

# Peers that are remembered; beyond that the longest unused are forgotten.
_REMEMBERED = 10_000
_MINUTE_MS = 60_000
# How many times as many wrong keys as of one peer there may be of all.
_IN_ALL = 50


class FailedAuthLimiter:
    """A bucket of `per_minute` wrong keys for each peer, which fills up again within a minute."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        # How many failures a peer has left, where it has failed.
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._of_all = TokenBucket(*self._rate(_IN_ALL), now=clock.now())

    def failed(self, peer: str) -> None:
        """Count a wrong key; RefusedError RESOURCE_EXHAUSTED if there were too many."""
        now = self._clock.now()
        bucket = self._buckets.get(peer)
        if bucket is None:
            bucket = self._buckets[peer] = TokenBucket(*self._rate(1), now=now)
        self._buckets.move_to_end(peer)
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        for one, whose in ((bucket, "from this address"), (self._of_all, "in all")):
            if not one.available(now):
                wait = max(1, math.ceil(one.time_until_one() / 1000))
                raise RefusedError(
                    "RESOURCE_EXHAUSTED",
                    f"too many wrong API keys {whose}; try again in {wait} s",
                    retry_after=wait,
                )
        bucket.take()
        self._of_all.take()

    def _rate(self, times: int) -> tuple[float, float]:
        return times * self._per_minute / _MINUTE_MS, times * self._per_minute


def peer_host(peer: str) -> str:
    """Return `ipv4:192.0.2.1:50312` or `ipv6:%5B::1%5D:50312` as `ipv4:192.0.2.1`, `ipv6:[::1]`."""
    return unquote(peer.rpartition(":")[0]) if peer.startswith("ip") else peer


def peer_of(host: str) -> str:
    """Return the peer of an address as HTTP has it: 192.0.2.1, or ::1."""
    return f"ipv6:[{host}]" if ":" in host else f"ipv4:{host}"
