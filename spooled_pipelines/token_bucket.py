"""A token bucket, the rule behind rate limits with a burst: no I/O, no clock of its own."""

from __future__ import annotations

import math

# What rounding may take off a token.
_EPSILON = 1e-9


class TokenBucket:
    """Tokens that come in at `rate`, up to `burst`; the bucket begins full.

    In any time T, at most ``rate * T + burst`` tokens are taken by callers that take what is
    available. Time is a number that the caller passes in; `rate` is tokens per unit of it.
    """

    __slots__ = ("_burst", "_filled_at", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled_at = now

    def available(self, now: float) -> int:
        """Return how many whole tokens there are."""
        elapsed = max(0.0, now - self._filled_at)
        self._tokens = min(self._burst, self._tokens + elapsed * self._rate)
        self._filled_at = now
        return max(0, math.floor(self._tokens + _EPSILON))

    def take(self, tokens: int = 1) -> None:
        """Take tokens; more than are available leave a debt."""
        self._tokens -= tokens

    def time_until_one(self) -> float:
        """Return how long it takes until a token is available, as of the last look."""
        return max(0.0, (1.0 - self._tokens) / self._rate)
