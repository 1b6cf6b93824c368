"""How fast a batch is done, and how long the rest of it takes."""

from __future__ import annotations

from collections import deque

# Long enough to be calm, short enough to see a worker join.
_WINDOW_SECONDS = 30.0


class Pace:
    """Told at times how many jobs are settled."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def at(self, now: float, settled: int) -> None:
        """`now`: seconds of any clock that does not go back."""
        if self._seen and settled < self._seen[-1][1]:
            # Dead letters were put back: what was settled before says nothing about now.
            self._seen.clear()
        self._seen.append((now, settled))
        while len(self._seen) > 2 and now - self._seen[1][0] >= _WINDOW_SECONDS:
            self._seen.popleft()

    def rate(self) -> float | None:
        """Jobs settled a second of late; None before there are two looks."""
        if len(self._seen) < 2:
            return None
        (began, before), (ended, after) = self._seen[0], self._seen[-1]
        return (after - before) / (ended - began) if ended > began else None

    def left(self, still_open: int) -> float | None:
        """Seconds until the rest is done at that rate; None where nothing moves."""
        rate = self.rate()
        return still_open / rate if rate else None
