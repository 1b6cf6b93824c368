"""The bucket of a queue's rate, whatever is asked of it and whenever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines.server.core.limits.queue_limits import QueueLimiter, QueueLimits

START = 1_700_000_000_000
rates = st.floats(0.00001, 1_000_000)
bursts = st.none() | st.integers(1, 1_000_000)
# Milliseconds that pass, then how many are asked for.
asks = st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 10_000)), max_size=30)


@given(rates, bursts, asks)
def test_no_window_of_time_lets_out_more_than_its_share_and_the_burst(
    rate: float, burst: int | None, asked: list[tuple[int, int]]
) -> None:
    bucket = QueueLimiter.of_limits(QueueLimits(rate, burst), None, START)
    assert bucket is not None
    assert bucket.burst is not None
    now, out = START, []
    for passed, wanted in asked:
        now += passed
        bucket = bucket.filled(now)
        taken = min(bucket.room(0), wanted)
        bucket = bucket.spent(taken)
        out.append((now, taken))
        until = bucket.next_at(0)
        # One who is held back looks again exactly when there is one, and not before.
        if until is None:
            assert bucket.room(0) > 0
        else:
            assert bucket.filled(until).room(0) >= 1
            assert bucket.filled(until - 1).room(0) == 0
    for first, (begin, _) in enumerate(out):
        jobs = 0
        for end, taken in out[first:]:
            jobs += taken
            assert jobs <= rate * (end - begin) / 1000 * (1 + 1e-9) + bucket.burst + 1e-4


@given(rates, st.integers(1, 1_000), st.integers(-200_000, 200_000))
def test_a_clock_that_differs_makes_no_jobs_and_loses_no_time_for_ever(
    rate: float, burst: int, difference: int
) -> None:
    bucket = QueueLimiter.of_limits(QueueLimits(rate, burst), None, START)
    assert bucket is not None
    bucket = bucket.spent(bucket.room(0))
    other = bucket.filled(START + difference)
    if difference <= 0:
        assert other.room(0) == 0
    # A server whose clock is right again lets out no more than the time that passed.
    later = other.filled(START + 300_000)
    assert later.level <= min(round(rate * 10**9) * 500_000, burst * 10**12)
    assert later.room(0) >= min(burst, int(rate * 100))
