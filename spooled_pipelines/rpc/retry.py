"""Whether and when to try again: decided here, without waiting or sending anything."""

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
    """How often and how fast to try again.

    Attributes:
        max_attempts: tries in all, the first included; 1 means never again.
        initial_seconds: the wait before the second try.
        max_seconds: the longest wait between two tries.
        multiplier: how much longer each wait is than the one before.
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
    """Seconds to wait after try number `attempt` (from 1) has failed."""
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
    """Seconds to wait before the next try, or None: give up and raise `error`.

    A call that was refused for its rate, or that never reached the server, was not done, so it
    may be tried again whatever it is. Where the connection broke under a call, only what is
    `repeatable` is: the server may have done it.
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
    """Whether it is certain that the call did not reach a server."""
    return error.details.get("sent") is False


def _must(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise InvalidArgumentError(f"RetryPolicy: {name} is {value!r}, and must be {rule}")
