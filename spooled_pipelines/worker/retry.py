"""When to try a call to the server again, and after which pause."""

from __future__ import annotations

import random

from spooled_pipelines.errors import (
    DeadlineExceededError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    SpooledError,
    UnavailableError,
)

_TRANSIENT = (
    UnavailableError,
    DeadlineExceededError,
    RateLimitError,
    QuotaExceededError,
    ServerError,
)


def is_transient(error: SpooledError) -> bool:
    """Return whether trying again can help, as opposed to a wrong key or a wrong name."""
    return isinstance(error, _TRANSIENT) and error.code != "UNIMPLEMENTED"


class Backoff:
    """Delays that double up to a limit, each with jitter, so that workers do not return in step.

    Args:
        initial_seconds, max_seconds: the first delay and the longest one.
        jitter: the share of a delay that is random, 0 to 1.
    """

    def __init__(self, initial_seconds: float, max_seconds: float, *, jitter: float = 0.5) -> None:
        self._initial = initial_seconds
        self._max = max_seconds
        self._jitter = jitter
        self._attempts = 0

    def next(self) -> float:
        """Return the next delay in seconds."""
        delay = min(self._max, self._initial * 2.0 ** min(self._attempts, 32))
        self._attempts += 1
        return delay * (1 - self._jitter * random.random())  # noqa: S311 - jitter, not a secret

    def after(self, error: SpooledError) -> float:
        """Return the next delay, and no less than what the server asked for."""
        delay = self.next()
        return max(delay, error.retry_after) if isinstance(error, RateLimitError) else delay

    def reset(self) -> None:
        """Begin again with the first delay."""
        self._attempts = 0
