"""How long a job waits before its retries, as users say it, and as a text on the wire."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines.retry_backoff import RetryBackoff, backoff_of, parse_backoff


def pauses(value: Any, chance: float = 0.5) -> list[float]:
    return [backoff_of(value).delay_ms(retries, chance) / 1000 for retries in range(4)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, [5, 5, 5, 5]),
        (0, [0, 0, 0, 0]),
        (0.25, [0.25, 0.25, 0.25, 0.25]),
        (timedelta(minutes=2), [120, 120, 120, 120]),
        ([1, timedelta(seconds=3), "1m"], [1, 3, 60, 60]),
        ("5s", [5, 5, 5, 5]),
        ("250ms", [0.25, 0.25, 0.25, 0.25]),
        ("5, 30s ,2m", [5, 30, 120, 120]),
        ("exponential 5s", [5, 10, 20, 40]),
        ("exponential 20m", [1200, 2400, 3600, 3600]),
        ("exponential 1s, 10s cap 15s", [1, 10, 15, 15]),
        ("1h cap 60s", [60, 60, 60, 60]),
    ],
)
def test_pauses_are_what_was_said(value: Any, expected: list[float]) -> None:
    assert pauses(value) == expected
    # What is sent says the same.
    assert pauses(str(backoff_of(value))) == expected


def test_jitter_is_a_fraction_of_the_pause_both_ways_and_never_above_the_cap() -> None:
    assert pauses("100s jitter 20%", 0.0)[0] == 80
    assert pauses("100s jitter 20%", 1.0)[0] == 120
    assert pauses("100s cap 110s jitter 20%", 1.0)[0] == 110


@pytest.mark.parametrize(
    "value",
    [
        *(-1, float("nan"), 31 * 86_400, True, [], [5, None], [0] * 101, timedelta(-1)),
        *("", "soon", "5 s 3", "31d", "exponential", "5s jitter 101%", "5s cap", None, {}),
    ],
)
def test_what_is_no_backoff_is_refused_with_what_to_say_instead(value: Any) -> None:
    with pytest.raises(ValueError, match=r"must have|must be"):
        backoff_of(value)


_SECONDS = st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000)


@given(
    st.builds(
        RetryBackoff,
        st.lists(_SECONDS, min_size=1, max_size=5).map(tuple),
        st.booleans(),
        _SECONDS,
        st.integers(0, 100).map(lambda percent: percent / 100),
    )
)
def test_the_text_says_all_of_it(backoff: RetryBackoff) -> None:
    assert parse_backoff(str(backoff)) == backoff
