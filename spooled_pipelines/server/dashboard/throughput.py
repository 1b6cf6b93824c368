"""The throughput of queues and batches, from their counters while somebody looks."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass

# Seen samples, as (when, jobs that came, jobs that went).
_Sample = tuple[int, int, int]
_WINDOW_MS = 60_000
_APART_MS = 1_000
_SHORTEST_MS = 1_500
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """Jobs a second."""

    came: float
    went: float


class Rates:
    """Rates of the last minute. The counters are the store's, so every server sees the same."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Hashable, deque[_Sample]] = OrderedDict()

    def see(self, what: Hashable, now: int, came: int, went: int) -> Rate | None:
        """Note the counters as they are now; return None until they were seen for long enough."""
        samples = self._seen.setdefault(what, deque())
        self._seen.move_to_end(what)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        while samples and not now - _WINDOW_MS <= samples[0][0] <= now:
            samples.popleft()
        first = samples[0] if samples else None
        if not samples or now - samples[-1][0] >= _APART_MS:
            samples.append((now, came, went))
        if first is None or now - first[0] < _SHORTEST_MS:
            return None
        seconds = (now - first[0]) / 1000
        # Old jobs are pruned and dead letters retried, so counters may fall.
        return Rate(max(came - first[1], 0) / seconds, max(went - first[2], 0) / seconds)
