"""How much is on its way at once, and how long to go on: decided here, without I/O."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from time import monotonic

from spooled_pipelines.errors import InvalidArgumentError, SpooledError
from spooled_pipelines.rpc.retry import RetryPolicy, delay_before_retry

# A server that is restarted is back within this; one that is away for longer is reported.
RETRY_SECONDS = 60.0
_UNLIMITED = 1 << 30
# A response that took this much longer than the quickest ones has waited in a queue.
_SLOWER = 4.0
_SLACK_SECONDS = 0.05
# Doubling ends long before that, since one round goes far.
_QUEUED, _QUEUED_SECONDS = 1.5, 0.01
# The quickest response is forgotten slowly, so that a server that has become slower is believed.
_FORGETTING = 1.001
# Unary calls: what pays off on one machine, and what a server a tenth of a second away still
# answers in time.
_CALLS, _CALLS_MOST = 32, 256


class AdaptiveLimit:
    """How many calls may be on their way at once: `limit`. For any number of threads.

    Additive increase, multiplicative decrease, by what is seen from outside: how long responses
    take, and what is refused.
    """

    def __init__(
        self,
        first: int,
        most: int,
        least: int = 1,
        clock: Callable[[], float] = monotonic,
        *,
        doubles: bool = False,
    ) -> None:
        """`doubles`: double the limit each round until responses begin to take longer."""
        self._limit = float(first)
        self._most, self._least = most, least
        self._clock = clock
        self._quickest = float("inf")
        self._doubles = doubles
        # Responses to come before the limit shrinks again: those on their way came too early.
        self._grace = 0
        self._held_until = 0.0
        self._lock = threading.Lock()

    @property
    def limit(self) -> int:
        return int(self._limit)

    def wait(self) -> float:
        """Return the seconds for which the server asked to be left alone."""
        if not self._held_until:
            return 0.0
        return max(0.0, self._held_until - self._clock())

    def answered(self, seconds: float) -> None:
        """Record a response that took `seconds`."""
        with self._lock:
            self._quickest = min(self._quickest * _FORGETTING, seconds)
            self._grace = max(0, self._grace - 1)
            if seconds > _SLOWER * self._quickest + _SLACK_SECONDS:
                self._shrink()
                return
            if seconds > _QUEUED * self._quickest + _QUEUED_SECONDS:
                self._doubles = False
            more = 1.0 if self._doubles else 1 / self._limit
            self._limit = min(self._most, self._limit + more)

    def refused(self, retry_after: float = 0.0) -> None:
        """Record a rate-limit refusal and hold back for `retry_after` seconds."""
        with self._lock:
            self._held_until = max(self._held_until, self._clock() + retry_after)
            self._grace = max(0, self._grace - 1)
            self._shrink()

    def _shrink(self) -> None:
        self._doubles = False
        if not self._grace:
            self._grace = self.limit
            self._limit = max(self._least, self._limit / 2)


def limit_of_calls() -> AdaptiveLimit:
    """Return a limit for unary calls to a server of which nothing is known yet."""
    return AdaptiveLimit(_CALLS, _CALLS_MOST, doubles=True)


class OutstandingLimit:
    """An upper bound on unsettled jobs: those the server counted, and the rows sent since."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open = 0

    def learned(self, open_jobs: int) -> None:
        """Record the server's count, taken while no row was on its way."""
        self._open = open_jobs

    def sent(self, rows: int) -> None:
        """Record rows that were sent, each of which may have become an open job."""
        self._open += rows

    def admits(self, rows: int) -> bool:
        """Return whether this many more rows stay within the limit."""
        return self._open + rows <= self._limit


def check_max_outstanding(limit: int | None) -> None:
    """Raise InvalidArgumentError if `max_outstanding` is not a number of jobs."""
    if limit is None:
        return
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InvalidArgumentError(
            f"max_outstanding must be a number of jobs of at least 1, got {limit!r}"
        )


class RetryBudget:
    """Retries with growing pauses until nothing has progressed for `seconds`.

    A policy that never retries (`max_attempts=1`) is respected; otherwise the time since the last
    progress counts, and not the number of attempts.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        seconds: float = RETRY_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        attempts = 1 if policy.max_attempts == 1 else _UNLIMITED
        self._policy = replace(policy, max_attempts=attempts)
        self._seconds = seconds
        self._clock = clock
        self._progressed = clock()
        self._attempt = 0

    def reset(self) -> None:
        """Record progress: the whole budget is available again."""
        self._progressed = self._clock()
        self._attempt = 0

    def next_delay(self, error: SpooledError) -> float | None:
        """Return the seconds to wait before the next attempt; None if there is none."""
        self._attempt += 1
        left = self._seconds - (self._clock() - self._progressed)
        return delay_before_retry(
            self._policy, error, self._attempt, repeatable=True, time_left=left
        )

    def pause(self, error: SpooledError) -> float:
        """Return the seconds to wait before the next attempt; raise `error` if there is none."""
        delay = self.next_delay(error)
        if delay is None:
            raise error
        return delay
