"""The client's own limit of calls a second: decided here, without waiting.

It is a sliding window and not a token bucket, which would let a burst pass on top of the rate.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic


class Pacer:
    """Gives each call its turn, so that no second sees more of them than `rate`."""

    def __init__(self, rate: float | None, clock: Callable[[], float] = monotonic) -> None:
        """`rate`: calls a second, below 1 for longer pauses; None: as many as there are."""
        self._clock = clock
        self._period = 0.0
        self._turns: deque[float] | None = None
        self._lock = threading.Lock()
        if rate is not None:
            # So many turns lie in each period, wherever it begins.
            many = max(1, int(rate))
            self._turns = deque(maxlen=many)
            self._period = many / rate

    def delay(self) -> float:
        """Take the next turn: how many seconds it is away."""
        if self._turns is None:
            return 0.0
        with self._lock:
            now = turn = self._clock()
            if len(self._turns) == self._turns.maxlen:
                turn = max(now, self._turns[0] + self._period)
            self._turns.append(turn)
        return turn - now
