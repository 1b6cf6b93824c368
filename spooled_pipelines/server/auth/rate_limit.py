"""The rate limit of calls, a token bucket for each organization."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.token_bucket import TokenBucket


class RateLimiter:
    """A limit of calls a second, with bursts of twice that; None: unlimited.

    `rate` is for every organization that `rates` does not name.
    """

    def __init__(
        self, rate: float | None, clock: Clock, rates: Mapping[str, float | None] | None = None
    ) -> None:
        self._rate = rate
        self._rates = dict(rates or {})
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}

    def admit(self, organization: str) -> None:
        """Count one call; RefusedError RESOURCE_EXHAUSTED if it is one too many."""
        wait_ms = self._take(organization)
        if wait_ms:
            wait = max(1, math.ceil(wait_ms / 1000))
            rate = self._rates.get(organization, self._rate)
            raise RefusedError(
                "RESOURCE_EXHAUSTED",
                f"more than {rate:g} requests a second; try again in {wait} s",
                retry_after=wait,
            )

    async def turn(self, organization: str) -> None:
        """Count one message of a stream, and wait until it may come."""
        wait_ms = self._take(organization, owing=True)
        if wait_ms:
            await asyncio.sleep(wait_ms / 1000)

    def _take(self, organization: str, *, owing: bool = False) -> float:
        """Take a token, if there is one or it may be owed; return the milliseconds until it is."""
        rate = self._rates.get(organization, self._rate)
        if rate is None:
            return 0.0
        now = self._clock.now()
        bucket = self._buckets.get(organization)
        if bucket is None:
            bucket = TokenBucket(rate / 1000, burst=max(2 * rate, 1.0), now=now)
            self._buckets[organization] = bucket
        wait = 0.0 if bucket.available(now) else bucket.time_until_one()
        if owing or not wait:
            bucket.take()
        return wait
