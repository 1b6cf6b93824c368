"""A queue whose handlers raise Throttled finds the rate that the other side takes."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import pytest

from spooled_pipelines.server.core.limits.queue_limits import QueueLimiter, QueueLimits

START = 1_000_000


@dataclass
class TokenBucketApi:
    """It takes `limit` calls a second, and as many at once after a quiet time."""

    limit: int
    tokens: float = 0.0
    filled_at: int = START

    def accepts(self, now: int) -> bool:
        come = (now - self.filled_at) * self.limit / 1_000
        self.tokens, self.filled_at = min(self.limit, self.tokens + come), now
        is_accepted = self.tokens >= 1
        self.tokens -= is_accepted
        return is_accepted


@dataclass
class WindowApi:
    """It takes `limit` calls in each second of the clock, and nothing more before the next."""

    limit: int
    second: int = 0
    taken: int = 0

    def accepts(self, now: int) -> bool:
        if now // 1_000 != self.second:
            self.second, self.taken = now // 1_000, 0
        self.taken += 1
        return self.taken <= self.limit


@dataclass
class Simulation:
    """Workers with `slots` handlers of 20 ms each, on a queue that never runs empty."""

    api: TokenBucketApi | WindowApi
    slots: int = 50
    after_ms: int | None = None
    limiter: QueueLimiter = field(default_factory=lambda: QueueLimiter.unlimited(START))
    now: int = START
    done: int = 0
    refused: int = 0
    running: list[tuple[int, int]] = field(default_factory=list)

    def run(self, seconds: int) -> float:
        """How many jobs were done a second."""
        done, end = self.done, self.now + 1_000 * seconds
        while self.now < end:
            while self.running and self.running[0][0] <= self.now:
                ends_at, started_at = self.running[0]
                self.settle(ends_at, started_at)
                heapq.heappop(self.running)
            self.limiter = self.limiter.filled(self.now)
            room = self.slots - len(self.running)
            if not self.limiter.is_none:
                room = min(room, self.limiter.room(len(self.running)))
            self.limiter = self.limiter.spent(room)
            for _ in range(room):
                heapq.heappush(self.running, (self.now + 20, self.now))
            self.now += 10
        return (self.done - done) / seconds

    def settle(self, now: int, started_at: int) -> None:
        if self.api.accepts(now):
            self.done += 1
            return
        self.refused += 1
        in_flight = len(self.running)
        self.limiter = self.limiter.throttled(started_at, self.now, in_flight, self.after_ms)


@pytest.mark.parametrize("after_ms", [None, 1_000], ids=["no retry-after", "retry-after 1 s"])
@pytest.mark.parametrize("api", [TokenBucketApi, WindowApi])
def test_throughput_is_within_a_tenth_of_what_the_other_side_takes(
    api: type[TokenBucketApi | WindowApi], after_ms: int | None
) -> None:
    # It begins with 2,500 jobs a second.
    simulation = Simulation(api(50), after_ms=after_ms)
    simulation.run(30)
    refused = simulation.refused
    assert 45 <= simulation.run(40) <= 51
    assert simulation.refused - refused < 40


def test_it_follows_the_other_side_up_and_down() -> None:
    simulation = Simulation(TokenBucketApi(20))
    simulation.run(20)
    simulation.api.limit = 80
    simulation.run(120)
    assert simulation.run(10) > 60
    simulation.api.limit = 20
    simulation.run(20)
    assert 18 <= simulation.run(20) <= 21


def test_what_nobody_throttles_any_longer_is_no_limit_after_three_minutes() -> None:
    slowed = QueueLimiter.unlimited(START).throttled(START - 100, START, 10, None)
    throttle = slowed.throttle(START)
    assert throttle is not None
    # Ten at once that took a tenth of a second each were 100 a second.
    assert throttle.jobs_per_second == 95
    assert [slowed.filled(START + at).room(0) for at in (0, 5, 11)] == [0, 0, 1]
    recovered = slowed.throttle(START + 20_000)
    assert recovered is not None
    assert recovered.jobs_per_second == 100
    assert slowed.filled(START + 180_000).is_none
    assert not slowed.filled(START + 60_000).is_none


def test_jobs_that_were_out_before_the_cut_do_not_cut_again_and_hold_all_the_same() -> None:
    slowed = QueueLimiter.unlimited(START).throttled(START - 100, START, 10, None)
    again = slowed.throttled(START - 50, START + 10, 10, None)
    assert again.throttle(START + 10) == slowed.throttle(START + 10)
    held = slowed.throttled(START - 50, START + 10, 10, 3_000)
    assert held.filled(START + 3_009).room(0) == 0
    assert held.next_at(0) == START + 3_010 + 11
    assert held.filled(START + 3_030).room(0) == 1


def test_it_is_never_faster_than_what_an_operator_set_and_setting_limits_ends_it() -> None:
    limits = QueueLimits(jobs_per_second=10, burst=1, max_in_flight=5)
    limiter = QueueLimiter.of_limits(limits, None, START)
    assert limiter is not None
    slowed = limiter.throttled(START - 1, START, 5, None)
    throttle = slowed.throttle(START)
    assert throttle is not None
    assert throttle.jobs_per_second == 9.5
    assert slowed.limits == limits
    assert slowed.filled(START + 60_000).limits == limits
    assert slowed.filled(START + 60_000).room(0) == 1
    again = QueueLimiter.of_limits(limits, slowed, START)
    assert again is not None
    assert again.throttle(START) is None
