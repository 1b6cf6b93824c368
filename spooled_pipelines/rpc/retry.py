"""Whether and when to retry: decided here, without waiting or sending anything."""

from __future__ import annotations

import random as _random
from collections.abc import Callable
from dataclasses import dataclass

from spooled_pipelines.errors import (
    InvalidArgumentError,
    RateLimitError,
    SpooledError,
    UnavailableError,
)


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how fast to retry.

    Attributes:
        max_attempts: attempts in all, including the first; 1 means no retry.
        initial_seconds: the pause before the second attempt.
        max_seconds: the longest pause between two attempts.
        multiplier: the factor by which each pause is longer than the one before.
        jitter: the share by which a wait is made shorter or longer by chance (0 to 1), so that
            many clients do not come back at the same moment.
    """

    max_attempts: int = 6
    initial_seconds: float = 0.1
    max_seconds: float = 10.0
    multiplier: float = 2.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        _must(self.max_attempts >= 1, "max_attempts", self.max_attempts, "at least 1")
        _must(self.initial_seconds >= 0, "initial_seconds", self.initial_seconds, "0 or more")
        _must(self.max_seconds >= 0, "max_seconds", self.max_seconds, "0 or more")
        _must(self.multiplier >= 1, "multiplier", self.multiplier, "1 or more")
        _must(0 <= self.jitter <= 1, "jitter", self.jitter, "between 0 and 1")


def backoff(
    policy: RetryPolicy, attempt: int, *, random: Callable[[], float] = _random.random
) -> float:
    """Return the seconds to wait after attempt number `attempt` (from 1) has failed."""
    # The exponent is bounded: a float overflows long before anyone waits that often.
    grown = policy.initial_seconds * policy.multiplier ** min(attempt - 1, 64)
    delay = min(grown, policy.max_seconds)
    return min(delay * (1 + policy.jitter * (2 * random() - 1)), policy.max_seconds)


def delay_before_retry(
    policy: RetryPolicy,
    error: SpooledError,
    attempt: int,
    *,
    repeatable: bool,
    time_left: float = float("inf"),
    random: Callable[[], float] = _random.random,
) -> float | None:
    """Return the seconds to wait before the next attempt; None to give up and raise `error`.

    A call that was refused for its rate, or that never reached the server, had no effect, so that
    any call may be repeated. If the connection broke during the call, the server may have executed
    it, so that only a `repeatable` call is.
    """
    if attempt >= policy.max_attempts:
        return None
    if isinstance(error, RateLimitError):
        # Never earlier than the server said; a little later, not all clients at once.
        delay = error.retry_after * (1 + policy.jitter * random())
    elif error.details.get("permanent"):
        return None
    elif isinstance(error, UnavailableError) and (repeatable or never_sent(error)):
        delay = backoff(policy, attempt, random=random)
    else:
        return None
    return delay if delay < time_left else None


def never_sent(error: SpooledError) -> bool:
    """Return whether the call certainly did not reach a server."""
    return error.details.get("sent") is False


def _must(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise InvalidArgumentError(f"RetryPolicy: {name} must be {rule}, got {value!r}")
