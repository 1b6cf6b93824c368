"""The client's own limit of calls a second: decided here, without waiting.

It is a sliding window and not a token bucket, which would let a burst pass on top of the rate.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic


class RateLimiter:
    """Spaces calls so that no second sees more of them than `rate`."""

    def __init__(self, rate: float | None, clock: Callable[[], float] = monotonic) -> None:
        """`rate`: calls a second, below 1 for longer pauses; None: no limit."""
        self._clock = clock
        self._period = 0.0
        self._reserved: deque[float] | None = None
        self._lock = threading.Lock()
        if rate is not None:
            # This many calls lie in each period, wherever it begins.
            many = max(1, int(rate))
            self._reserved = deque(maxlen=many)
            self._period = many / rate

    def acquire(self) -> float:
        """Reserve the next call; return the seconds to wait before it."""
        if self._reserved is None:
            return 0.0
        with self._lock:
            now = at = self._clock()
            if len(self._reserved) == self._reserved.maxlen:
                at = max(now, self._reserved[0] + self._period)
            self._reserved.append(at)
        return at - now
