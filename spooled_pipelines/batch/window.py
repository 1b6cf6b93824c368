"""How much is on its way at once: more while the server keeps up, half when it does not.

Additive increase, multiplicative decrease, on what is seen from outside: how long answers take, and
what is refused. Decided here, without waiting or sending anything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

# An answer that took so much longer than the quickest ones has waited in somebody's queue.
_SLOWER = 4.0
_SLACK_SECONDS = 0.05
# Doubling ends long before that: it goes far within one round.
_QUEUED, _QUEUED_SECONDS = 1.5, 0.01
# The quickest answer is forgotten so slowly that a server which has become slower is believed.
_FORGETTING = 1.001
# Unary calls: those that are worth while on one machine, and what a server a tenth of a second away
# still answers in time.
_CALLS, _CALLS_MOST = 32, 256


class Window:
    """Told of every answer; `limit` is how many may be on their way. For any number of threads."""

    def __init__(
        self,
        first: int,
        most: int,
        least: int = 1,
        clock: Callable[[], float] = monotonic,
        *,
        doubles: bool = False,
    ) -> None:
        """`doubles`: twice as many each round until answers begin to take longer."""
        self._limit = float(first)
        self._most, self._least = most, least
        self._clock = clock
        self._quickest = float("inf")
        self._doubles = doubles
        # Answers to come before it is made smaller again: those on their way know nothing of it.
        self._grace = 0
        self._held_until = 0.0
        self._lock = threading.Lock()

    @property
    def limit(self) -> int:
        return int(self._limit)

    def wait(self) -> float:
        """Seconds until the server wants to hear more."""
        if not self._held_until:
            return 0.0
        return max(0.0, self._held_until - self._clock())

    def answered(self, seconds: float) -> None:
        """After so long."""
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
        """For its rate; nothing more is to be sent for so many seconds."""
        with self._lock:
            self._held_until = max(self._held_until, self._clock() + retry_after)
            self._grace = max(0, self._grace - 1)
            self._shrink()

    def _shrink(self) -> None:
        self._doubles = False
        if not self._grace:
            self._grace = self.limit
            self._limit = max(self._least, self._limit / 2)


def window_of_calls() -> Window:
    """For unary calls on a server of which nothing is known yet."""
    return Window(_CALLS, _CALLS_MOST, doubles=True)
