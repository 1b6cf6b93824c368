"""How many jobs of a queue may go out now, decided without I/O: the same for every store.

A queue's rate is a bucket of jobs. It fills at the rate, holds at most the burst, and each claimed
job is taken out of it; so in any T seconds at most rate * T + burst jobs are claimed. It is kept
with the jobs, as whole numbers, so that rounding neither makes nor loses a job.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

# A bucket is counted in billionths of a thousandth of a job, so that a rate in billionths of a
# job a second is what comes into it in a millisecond.
_JOB = 10**12
_RATE_UNITS = 10**9
_DEFAULT_BURST_SECONDS = 0.1
# The servers of a database may differ by less than this. A bucket that was filled later than
# that from now was filled before the clock was set back.
_CLOCKS_DIFFER_MS = 60_000


class QueueLimits(NamedTuple):
    """What an operator sets; None is no limit. `burst` is None where there is no rate."""

    jobs_per_second: float | None = None
    burst: int | None = None
    max_in_flight: int | None = None


class QueueControl(NamedTuple):
    """What holds a queue back."""

    limits: QueueLimits
    paused: bool


class LimitedBy(NamedTuple):
    """Which of a queue's limits hold jobs back right now."""

    limits: QueueLimits
    in_flight: bool
    rate: bool


class QueueLimiter(NamedTuple):
    """A queue's limits as they are stored, with its token bucket as it was at `filled_at` (ms)."""

    rate: int | None
    burst: int | None
    level: int
    filled_at: int
    max_in_flight: int | None
    set_at: int

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> QueueLimiter | None:
        """Return that of a row of `queue_limits`, without the queue; None if there is no row."""
        return None if row[-1] is None else cls._make(row)

    @classmethod
    def of_limits(
        cls, asked: QueueLimits, before: QueueLimiter | None, now: int
    ) -> QueueLimiter | None:
        """Return what to store for these limits; None if there are none.

        A rate that was set before leaves its bucket as it is, so that setting limits lets no more
        out.
        """
        rate, burst, max_in_flight = asked
        if rate is None:
            return None if max_in_flight is None else cls(None, None, 0, now, max_in_flight, now)
        if burst is None:
            burst = max(1, math.ceil(rate * _DEFAULT_BURST_SECONDS))
        level, filled_at = burst * _JOB, now
        if before is not None and before.rate is not None:
            before = before.filled(now)
            level, filled_at = min(level, before.level), before.filled_at
        return cls(round(rate * _RATE_UNITS), burst, level, filled_at, max_in_flight, now)

    @property
    def limits(self) -> QueueLimits:
        """What was set."""
        rate = None if self.rate is None else self.rate / _RATE_UNITS
        return QueueLimits(rate, self.burst, self.max_in_flight)

    def filled(self, now: int) -> QueueLimiter:
        """Return the bucket as it is now."""
        if self.rate is None or self.burst is None:
            return self._replace(filled_at=now)
        if now < self.filled_at:
            # Another server's clock is ahead: its milliseconds are not counted twice.
            was_set_back = self.filled_at - now > _CLOCKS_DIFFER_MS
            return self._replace(filled_at=now) if was_set_back else self
        level = min(self.level + (now - self.filled_at) * self.rate, self.burst * _JOB)
        return self._replace(level=level, filled_at=now)

    def room(self, in_flight: int) -> int:
        """How many jobs may be claimed of a bucket that was filled just now."""
        room = [self.level // _JOB] if self.rate is not None else []
        if self.max_in_flight is not None:
            room.append(self.max_in_flight - in_flight)
        return max(0, min(room))

    def spent(self, jobs: int) -> QueueLimiter:
        """After so many were claimed."""
        return self if self.rate is None else self._replace(level=self.level - jobs * _JOB)

    def held_until(self, in_flight: int) -> int | None:
        """When the rate lets the next job out; None where the rate is not what holds it back."""
        if self.rate is None or self.level >= _JOB or self.is_full(in_flight):
            return None
        return self.filled_at - (self.level - _JOB) // self.rate

    def is_full(self, in_flight: int) -> bool:
        """Whether no job may be claimed before another ends."""
        return self.max_in_flight is not None and in_flight >= self.max_in_flight

    def limited_by(self, in_flight: int, now: int) -> LimitedBy:
        """Return what holds jobs back, if there are any.

        The rate does where the last claim emptied the bucket, until it is full again: whether
        there is a job in it at this very moment would change with every look.
        """
        rate = False
        if self.rate is not None and self.burst is not None:
            rate = self.level < _JOB and self.filled(now).level < self.burst * _JOB
        return LimitedBy(self.limits, self.is_full(in_flight), rate)
