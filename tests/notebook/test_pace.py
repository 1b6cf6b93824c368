"""How fast, and how much longer: of late, and honest where nothing moves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spooled_pipelines.batch.display.progress import ThroughputEstimator
from spooled_pipelines.cli.commands.watch import describe
from spooled_pipelines.notebook.stats import stats_card
from spooled_pipelines.types import BatchStats


def test_all_is_said_to_be_done_when_it_is_and_the_rest_takes_minutes() -> None:
    throughput = ThroughputEstimator()
    for second in (0, 1):
        throughput.update(float(second), 9_997 + second)
    stats = BatchStats("b", "q", sealed=True, total=10_000, completed=9_998, pending=2)
    assert "9,998 of 10,000 done (99.9%)" in describe(stats, throughput)
    assert "jobs (99.9%)" in stats_card(stats, throughput).text()
    stats = replace(stats, total=20_000, pending=10_002)
    assert "2 h 46 min left" in describe(stats, throughput)


def test_one_look_says_nothing() -> None:
    throughput = ThroughputEstimator()
    throughput.update(0.0, 5)
    assert throughput.rate() is None
    assert throughput.left(10) is None


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    throughput = ThroughputEstimator()
    for second in range(100):
        throughput.update(float(second), 10 * second if second < 60 else 600 + 2 * (second - 60))
    assert throughput.rate() == pytest.approx(2.0)
    assert throughput.left(20) == pytest.approx(10.0)


def test_where_nothing_moves_there_is_no_time_left_to_tell() -> None:
    throughput = ThroughputEstimator()
    for second in range(40):
        throughput.update(float(second), 7)
    assert throughput.rate() == 0
    assert throughput.left(3) is None


def test_jobs_that_go_back_begin_the_count_again() -> None:
    throughput = ThroughputEstimator()
    throughput.update(0.0, 100)
    throughput.update(1.0, 40)
    assert throughput.rate() is None
    throughput.update(2.0, 50)
    assert throughput.rate() == pytest.approx(10.0)
