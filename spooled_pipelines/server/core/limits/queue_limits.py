"""How many jobs of a queue may go out now, decided without I/O: the same for every store.

A queue's rate is a bucket of jobs. It fills at the rate, holds at most the burst, and each claimed
job is taken out of it; so in any T seconds at most rate * T + burst jobs are claimed. It is kept
with the jobs, as whole numbers, so that rounding neither makes nor loses a job.

A handler that raises Throttled slows its queue: the rate at which jobs went out goes down by a
twentieth, by twice as much each time that the slower rate is still too fast, and grows back step by
step, within 20 s to what was too fast and then beyond, until it no longer
limits. All of it follows from what is stored and the time, so that all servers agree.
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
# What a Throttled takes off, in thousandths: at first, and at most where it comes again and again.
_CUT, _CUT_MOST = 50, 500
# Jobs that went out so soon after the last cut say that it was not enough: nothing goes out for a
# second, and where that does not help either, the next cut is deeper.
_AGAIN_MS, _HOLD_MS = 2_000, 1_000
# So long until the rate is again what was too fast, and so many times that until it is forgotten.
_RECOVERY_MS, _FORGOTTEN = 20_000, 4
# One job a minute still goes out, to try.
_SLOWEST = _RATE_UNITS // 60
_NO_LIMIT = 2**31


class QueueLimits(NamedTuple):
    """What an operator sets; None is no limit. `burst` is None where there is no rate."""

    jobs_per_second: float | None = None
    burst: int | None = None
    max_in_flight: int | None = None


class QueueControl(NamedTuple):
    """What holds a queue back."""

    limits: QueueLimits
    paused: bool
    throttle: Throttle | None = None


class Throttle(NamedTuple):
    """How handlers that raised Throttled slow a queue right now."""

    jobs_per_second: float
    # When the last cut was.
    since: int
    # Nothing goes out before this.
    held_until: int | None


class LimitedBy(NamedTuple):
    """Which of a queue's limits hold jobs back right now."""

    limits: QueueLimits
    in_flight: bool
    rate: bool
    throttle: Throttle | None = None


class QueueLimiter(NamedTuple):
    """A queue's limits as they are stored, with its token bucket as it was at `filled_at` (ms)."""

    rate: int | None
    burst: int | None
    level: int
    filled_at: int
    max_in_flight: int | None
    # The rate before and after the last Throttled, when that was, and until when nothing goes out.
    throttled_from: int | None
    throttled_to: int | None
    throttled_at: int | None
    held_until: int | None
    set_at: int

    @classmethod
    def unlimited(cls, now: int) -> QueueLimiter:
        """Return that of a queue without limits."""
        return cls(None, None, 0, now, None, None, None, None, None, now)

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
        out. What Throttled slowed is forgotten: those who set limits know better.
        """
        rate, burst, max_in_flight = asked
        if rate is None:
            none = cls.unlimited(now)._replace(max_in_flight=max_in_flight)
            return None if max_in_flight is None else none
        if burst is None:
            burst = max(1, math.ceil(rate * _DEFAULT_BURST_SECONDS))
        level, filled_at = burst * _JOB, now
        if before is not None and before.rate is not None:
            before = before.filled(now)
            level, filled_at = min(level, before.level), before.filled_at
        units = round(rate * _RATE_UNITS)
        return cls(units, burst, level, filled_at, max_in_flight, None, None, None, None, now)

    @property
    def limits(self) -> QueueLimits:
        """What was set."""
        rate = None if self.rate is None else self.rate / _RATE_UNITS
        return QueueLimits(rate, self.burst, self.max_in_flight)

    @property
    def is_none(self) -> bool:
        """Whether nothing is limited."""
        return self.rate is None and self.max_in_flight is None and self.throttled_at is None

    def filled(self, now: int) -> QueueLimiter:
        """Return the bucket as it is now; a slowing that is over is gone."""
        if self.throttled_at is not None and self.throttled_rate(now) is None:
            over = self._replace(throttled_from=None, throttled_to=None, throttled_at=None)
            return over._replace(held_until=None).filled(now)
        rate, burst = self.rate_at(now), self.burst_at(now)
        if rate is None or burst is None:
            return self._replace(filled_at=now)
        if now < self.filled_at:
            # Another server's clock is ahead: its milliseconds are not counted twice.
            was_set_back = self.filled_at - now > _CLOCKS_DIFFER_MS
            return self._replace(filled_at=now) if was_set_back else self
        # While it is held, nothing comes in.
        since = max(self.filled_at, min(self.held_until or 0, now))
        mean = ((self.rate_at(since) or rate) + rate) // 2
        level = min(self.level + (now - since) * mean, burst * _JOB)
        return self._replace(level=level, filled_at=now)

    def room(self, in_flight: int) -> int:
        """How many jobs may be claimed of a bucket that was filled just now."""
        room = [self.level // _JOB] if self.rate_at(self.filled_at) is not None else []
        if self.max_in_flight is not None:
            room.append(self.max_in_flight - in_flight)
        return max(0, min(room, default=_NO_LIMIT))

    def spent(self, jobs: int) -> QueueLimiter:
        """After so many were claimed."""
        if self.rate_at(self.filled_at) is None:
            return self
        return self._replace(level=self.level - jobs * _JOB)

    def next_at(self, in_flight: int) -> int | None:
        """When the rate lets the next job out; None where the rate is not what holds it back."""
        rate = self.rate_at(self.filled_at)
        if rate is None or self.level >= _JOB or self.is_full(in_flight):
            return None
        return max(self.filled_at, self.held_until or 0) - (self.level - _JOB) // rate

    def throttled(
        self, started_at: int, now: int, in_flight: int, after_ms: int | None
    ) -> QueueLimiter:
        """After a job that went out at `started_at` was answered that it comes too fast.

        `in_flight` counts that job too: so many at once, each of which takes so long, is how fast
        jobs went out where that was not limited before. Those that were out already when the rate
        was cut last say nothing new.
        """
        limiter = self.filled(now)
        rate, cut_at = limiter.throttled_rate(now), limiter.throttled_at
        held = limiter.held_until or 0
        until = max(held, now + after_ms) if after_ms else held
        cut = _CUT
        if rate is None or cut_at is None:
            rate = in_flight * 1_000 * _RATE_UNITS // max(now - started_at, 1)
            rate = rate if limiter.rate is None else min(rate, limiter.rate)
        elif started_at <= max(cut_at, held):
            return limiter.held(until) if after_ms else limiter
        elif started_at - max(cut_at, held) < _AGAIN_MS:
            if held < cut_at and not after_ms:
                # Many allow so much in each second, and nothing more before the next one.
                return limiter.held(now + _HOLD_MS)
            before, slower = limiter.throttled_from or 1, limiter.throttled_to or 1
            cut = max(_CUT, min(2 * (before - slower) * 1_000 // before, _CUT_MOST))
        rate = max(rate, _SLOWEST)
        return limiter.held(until)._replace(
            throttled_from=rate,
            throttled_to=max(rate - rate * cut // 1_000, _SLOWEST),
            throttled_at=now,
        )

    def held(self, until: int) -> QueueLimiter:
        """After it was said that nothing is to go out until then; the bucket is empty after it."""
        return self._replace(level=min(self.level, 0), held_until=until or None)

    def throttle(self, now: int) -> Throttle | None:
        """Return how Throttled slows the queue now, if it does."""
        rate, held = self.throttled_rate(now), self.held_until
        if rate is None or self.throttled_at is None:
            return None
        held = held if held is not None and held > now else None
        return Throttle(rate / _RATE_UNITS, self.throttled_at, held)

    def throttled_rate(self, now: int) -> int | None:
        """Return the rate that Throttled leaves; None where there is none, or it is over."""
        before, after = self.throttled_from, self.throttled_to
        if before is None or after is None or self.throttled_at is None:
            return None
        gone = max(now - max(self.throttled_at, self.held_until or 0), 0)
        rate = after + (before - after) * gone // _RECOVERY_MS
        if gone > _RECOVERY_MS:
            # Beyond what was too fast, the steps grow.
            beyond = gone - _RECOVERY_MS
            rate += (before - after) * beyond * beyond // _RECOVERY_MS**2
            rate += _SLOWEST * beyond // _RECOVERY_MS
        return None if rate >= _FORGOTTEN * before else rate

    def rate_at(self, now: int) -> int | None:
        """Return how fast jobs may go out: as was set, or slower."""
        rates = (self.rate, self.throttled_rate(now))
        return min((rate for rate in rates if rate is not None), default=None)

    def burst_at(self, now: int) -> int | None:
        """Return how many may go out at once."""
        slowed = self.throttled_rate(now)
        if slowed is None:
            return self.burst
        burst = max(1, math.ceil(slowed / _RATE_UNITS * _DEFAULT_BURST_SECONDS))
        return burst if self.burst is None else min(burst, self.burst)

    def is_full(self, in_flight: int) -> bool:
        """Whether no job may be claimed before another ends."""
        return self.max_in_flight is not None and in_flight >= self.max_in_flight

    def limited_by(self, in_flight: int, now: int) -> LimitedBy:
        """Return what holds jobs back, if there are any.

        The rate does where the last claim emptied the bucket, until it is full again: whether
        there is a job in it at this very moment would change with every look.
        """
        bucket = self.filled(now)
        rate, burst = bucket.rate_at(now), bucket.burst_at(now)
        is_empty = False
        if rate is not None and burst is not None:
            is_empty = self.level < _JOB and bucket.level < burst * _JOB
        return LimitedBy(self.limits, self.is_full(in_flight), is_empty, bucket.throttle(now))
