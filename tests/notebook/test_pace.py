"""How fast, and how much longer: of late, and honest where nothing moves."""

from __future__ import annotations

import pytest

from spooled_pipelines.batch.pace import Pace


def test_one_look_says_nothing() -> None:
    pace = Pace()
    pace.at(0.0, 5)
    assert pace.rate() is None
    assert pace.left(10) is None


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    pace = Pace()
    for second in range(100):
        pace.at(float(second), 10 * second if second < 60 else 600 + 2 * (second - 60))
    assert pace.rate() == pytest.approx(2.0)
    assert pace.left(20) == pytest.approx(10.0)


def test_where_nothing_moves_there_is_no_time_left_to_tell() -> None:
    pace = Pace()
    for second in range(40):
        pace.at(float(second), 7)
    assert pace.rate() == 0
    assert pace.left(3) is None


def test_jobs_that_go_back_begin_the_count_anew() -> None:
    pace = Pace()
    pace.at(0.0, 100)
    pace.at(1.0, 40)
    assert pace.rate() is None
    pace.at(2.0, 50)
    assert pace.rate() == pytest.approx(10.0)
