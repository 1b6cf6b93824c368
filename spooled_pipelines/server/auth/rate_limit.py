"""Requests a second, per organization, as a bucket of tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping

from spooled_pipelines.server.core.clock import Clock
from spooled_pipelines.server.core.errors import RefusedError


class RateLimiter:
    """Lets so many calls a second through, and bursts of twice that; None: as many as come.

    `rate` is for every organization that `rates` does not name.
    """

    def __init__(
        self, rate: float | None, clock: Clock, rates: Mapping[str, float | None] | None = None
    ) -> None:
        self._rate = rate
        self._rates = dict(rates or {})
        self._clock = clock
        self._buckets: dict[str, tuple[float, int]] = {}

    def admit(self, organization: str) -> None:
        """Count one call; RefusedError RESOURCE_EXHAUSTED with `retry_after` if it is too many."""
        rate = self._rates.get(organization, self._rate)
        if rate is None:
            return
        burst = max(2 * rate, 1.0)
        now = self._clock.now()
        tokens, since = self._buckets.get(organization, (burst, now))
        tokens = min(burst, tokens + max(now - since, 0) / 1000 * rate)
        if tokens < 1:
            self._buckets[organization] = (tokens, now)
            wait = max(1, math.ceil((1 - tokens) / rate))
            raise RefusedError(
                "RESOURCE_EXHAUSTED",
                f"more than {rate:g} requests a second; try again in {wait} s",
                retry_after=wait,
            )
        self._buckets[organization] = (tokens - 1, now)
