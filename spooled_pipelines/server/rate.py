"""Requests a second, per organization, as a bucket of tokens."""

from __future__ import annotations

import math

from spooled_pipelines.server.clock import Clock
from spooled_pipelines.server.errors import RefusedError


class RateLimiter:
    """Lets `rate` calls a second through, and bursts of twice that."""

    def __init__(self, rate: float, clock: Clock) -> None:
        self._rate = rate
        self._burst = max(2 * rate, 1.0)
        self._clock = clock
        self._buckets: dict[str, tuple[float, int]] = {}

    def admit(self, organization: str) -> None:
        """Count one call; RefusedError RESOURCE_EXHAUSTED with `retry_after` if it is too many."""
        now = self._clock.now()
        tokens, since = self._buckets.get(organization, (self._burst, now))
        tokens = min(self._burst, tokens + max(now - since, 0) / 1000 * self._rate)
        if tokens < 1:
            self._buckets[organization] = (tokens, now)
            wait = max(1, math.ceil((1 - tokens) / self._rate))
            raise RefusedError(
                "RESOURCE_EXHAUSTED",
                f"more than {self._rate:g} requests a second; try again in {wait} s",
                retry_after=wait,
            )
        self._buckets[organization] = (tokens - 1, now)
