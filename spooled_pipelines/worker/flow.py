"""How much to ask for, and how long to wait: decisions without I/O."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from spooled_pipelines.wire.limits import DEQUEUE_MAX

# Jobs are fetched ahead for about this long, so that slots do not wait for a round trip. Slow
# handlers thereby fetch nothing ahead, and other workers get what this one could not begin.
AHEAD_SECONDS = 0.25
AHEAD_MAX = 1_000
# Results sent and not yet acknowledged; beyond this nothing new is taken.
UNACKNOWLEDGED_MAX = 2_000
# Requests of the wire's most jobs that are under way together: on a long way to the server, or one
# that is busy, a single one would be what everything waits for.
_REQUESTS_MAX = 10
# How fast the pace forgets.
_PACE_SECONDS = 1.0


class Pace:
    """Jobs finished a second, of late: an average that decays."""

    def __init__(self, now: float) -> None:
        self._value = 0.0
        self._at = now

    def note(self, jobs: int, now: float) -> None:
        self._value = self.rate(now) + jobs / _PACE_SECONDS
        self._at = now

    def rate(self, now: float) -> float:
        return self._value * math.exp(-max(0.0, now - self._at) / _PACE_SECONDS)


@dataclass(frozen=True)
class Load:
    """Where the worker stands: jobs fetched and not finished, results not acknowledged."""

    unfinished: int
    unacknowledged: int


def how_many(load: Load, concurrency: int, rate: float) -> int:
    """How many jobs to ask for now, in as many requests as that takes; 0 means: wait.

    Never more than free slots plus what `rate` does within AHEAD_SECONDS. A request for a few
    jobs costs as much as one for many, so with every slot busy it waits for half of that room.
    """
    if load.unacknowledged >= UNACKNOWLEDGED_MAX:
        return 0
    ahead = min(AHEAD_MAX, int(rate * AHEAD_SECONDS))
    room = concurrency + ahead - load.unfinished
    busy = load.unfinished >= concurrency
    if room <= 0 or (busy and room < ahead / 2):
        return 0
    return min(room, _REQUESTS_MAX * DEQUEUE_MAX)


def requests(jobs: int) -> list[int]:
    """So many jobs as requests of no more than the wire allows."""
    whole, rest = divmod(jobs, DEQUEUE_MAX)
    return [DEQUEUE_MAX] * whole + ([rest] if rest else [])


class Allowance:
    """How many jobs a worker with a rate may begin now.

    In any T seconds no more than ``rate * T`` and a tenth of a second's worth (at least one).
    """

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._most = max(1.0, rate / 10)
        self._level = self._most
        self._at = now

    def left(self, now: float) -> int:
        """How many."""
        self._level = min(self._most, self._level + self._rate * max(0.0, now - self._at))
        self._at = now
        return max(0, math.floor(self._level + 1e-9))

    def spend(self, jobs: int) -> None:
        """So many were begun; more than were left are a debt."""
        self._level -= jobs

    def seconds_until_one(self) -> float:
        """How long it takes until there is one, as of the last look."""
        return max(0.0, (1.0 - self._level) / self._rate)


class Backoff:
    """Delays that double up to a limit, each with jitter, so that workers do not come back at once.

    Args:
        first, most: seconds.
        spread: the share of a delay that is random, 0 to 1.
    """

    def __init__(self, first: float, most: float, *, spread: float = 0.5) -> None:
        self._first = first
        self._most = most
        self._spread = spread
        self._steps = 0

    def next(self) -> float:
        delay = min(self._most, self._first * 2.0 ** min(self._steps, 32))
        self._steps += 1
        return delay * (1 - self._spread * random.random())  # noqa: S311 - jitter, not a secret

    def reset(self) -> None:
        self._steps = 0
