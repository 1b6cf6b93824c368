"""The bucket behind the rate limits of client and server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines.token_bucket import TokenBucket


def test_it_begins_full_and_fills_up_to_its_burst() -> None:
    bucket = TokenBucket(rate=2.0, burst=5, now=100.0)
    assert bucket.available(100.0) == 5
    bucket.take(5)
    assert (bucket.available(100.0), bucket.time_until_one()) == (0, 0.5)
    assert bucket.available(100.5) == 1
    assert bucket.available(200.0) == 5


def test_more_than_there_is_leaves_a_debt() -> None:
    bucket = TokenBucket(rate=1.0, burst=2, now=0.0)
    bucket.take(5)
    assert bucket.available(3.9) == 0
    assert bucket.time_until_one() == pytest.approx(0.1)
    assert bucket.available(4.0) == 1


def test_a_clock_that_goes_back_neither_fills_nor_empties_it() -> None:
    bucket = TokenBucket(rate=1.0, burst=3, now=10.0)
    bucket.take(3)
    assert bucket.available(5.0) == 0
    assert bucket.available(6.0) == 1


@given(
    rate=st.floats(0.1, 1_000),
    burst=st.integers(1, 100),
    steps=st.lists(st.floats(0, 2), max_size=50),
)
def test_in_any_time_no_more_than_the_rate_and_a_burst(
    rate: float, burst: int, steps: list[float]
) -> None:
    bucket = TokenBucket(rate, burst, now=0.0)
    taken: list[tuple[float, int]] = []
    now = 0.0
    for step in steps:
        now += step
        tokens = bucket.available(now)
        bucket.take(tokens)
        taken.append((now, tokens))
    for first, (since, _) in enumerate(taken):
        total = 0
        for until, tokens in taken[first:]:
            total += tokens
            assert total <= rate * (until - since) + burst + 1e-6
