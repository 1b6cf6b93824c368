"""Decisions that need no server: patience, verdicts, queue numbers as a batch's."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from spooled_pipelines.batch.flow_control import RetryBudget
from spooled_pipelines.batch.outcome.v1_stats import JobTracker, stats_from_queue
from spooled_pipelines.batch.outcome.verdict import breached, timeout_error
from spooled_pipelines.errors import InvalidArgumentError, RateLimitError, UnavailableError
from spooled_pipelines.rpc.retry import RetryPolicy
from spooled_pipelines.types import BatchStats, QueueStats
from spooled_pipelines.wire import spooled_v1

AWAY = UnavailableError("away")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_patience_ends_when_nothing_has_moved_for_long_enough() -> None:
    clock = Clock()
    patience = RetryBudget(RetryPolicy(jitter=0), seconds=60, clock=clock)
    waits = []
    while (delay := patience.next_delay(AWAY)) is not None:
        waits.append(delay)
        clock.now += delay
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(waits) == 10
    assert 50 < sum(waits) <= 60
    # Progress in between starts it again.
    clock.now += 100
    patience.reset()
    assert patience.next_delay(AWAY) == 0.1


def test_patience_has_none_with_what_waiting_does_not_cure() -> None:
    assert RetryBudget(RetryPolicy()).next_delay(InvalidArgumentError("wrong")) is None
    assert RetryBudget(RetryPolicy(max_attempts=1)).next_delay(AWAY) is None
    limited = RateLimitError("slow down", retry_after=3)
    assert RetryBudget(RetryPolicy(jitter=0)).next_delay(limited) == 3


@pytest.mark.parametrize(
    ("failed", "sealed", "allowed", "expected"),
    [
        (0, True, 0, False),
        (1, True, 0, True),
        (1, False, 0, True),
        (5, True, 5, False),
        (6, False, 5, True),
        (5, True, 0.05, False),
        (6, True, 0.05, True),
        # Until the batch is sealed there may be more jobs, and the share smaller.
        (6, False, 0.05, False),
        (100, True, 1.0, False),
    ],
)
def test_a_verdict_comes_as_soon_as_it_is_certain(
    failed: int, sealed: bool, allowed: float, expected: bool
) -> None:
    stats = BatchStats("b", "q", sealed=sealed, total=100, deadletter=failed)
    assert breached(stats, allowed) is expected


def test_a_time_out_without_any_answer_says_why() -> None:
    error = timeout_error(None, 5, UnavailableError("nobody listens."), "b_1")
    assert "b_1" in str(error)
    assert "nobody listens." in str(error)
    assert error.stats is None


def _job(job_id: str, status: Any, error: str = "") -> spooled_v1.Job:
    return spooled_v1.Job(id=job_id, status=status, last_error=error)


def test_a_queue_of_its_own_is_counted_without_asking_for_jobs() -> None:
    view = JobTracker("b", "q", "", ["1", "2", "3"])
    queue = QueueStats("q", pending=1, processing=1, completed=1, total=3)
    assert list(view.to_ask(queue)) == []
    stats = view.stats(queue)
    assert (stats.pending, stats.processing, stats.completed) == (1, 1, 1)
    # What is in no count any more was cancelled.
    assert view.stats(QueueStats("q", completed=2, total=3)).cancelled == 1


def test_on_a_shared_queue_only_open_jobs_are_asked_for_and_only_after_a_change() -> None:
    view = JobTracker("b", "q", "", ["1", "2"])
    queue = QueueStats("q", pending=8, completed=2, total=10)
    assert list(view.to_ask(queue)) == ["1", "2"]
    view.learn(_job("1", spooled_v1.JOB_STATUS_COMPLETED))
    view.learn(_job("2", spooled_v1.JOB_STATUS_PENDING))
    assert view.stats(queue).completed == 1
    assert list(view.to_ask(queue)) == []
    later = QueueStats("q", pending=6, completed=3, deadletter=1, total=10)
    assert list(view.to_ask(later)) == ["2"]
    view.learn(_job("2", spooled_v1.JOB_STATUS_DEADLETTER, "boom"))
    stats = view.stats(later)
    assert (stats.settled, stats.failed, stats.top_errors) == (True, 1, (("boom", 1),))


def test_jobs_that_the_server_has_forgotten_count_no_longer() -> None:
    view = JobTracker("b", "q", "", ["1", "2"])
    queue = QueueStats("q", total=0)
    assert list(view.to_ask(queue)) == ["1", "2"]
    view.learn(None)
    view.learn(_job("2", spooled_v1.JOB_STATUS_COMPLETED))
    # Once may be too early.
    assert (view.stats(queue).settled, view.stats(queue).total) == (False, 2)
    assert list(view.to_ask(queue)) == ["1"]
    view.learn(None)
    stats = view.stats(queue)
    assert (stats.settled, stats.total, stats.completed) == (True, 1, 1)


def test_without_its_jobs_a_batch_is_settled_once_its_queue_is_empty() -> None:
    before = QueueStats("q", completed=10, deadletter=2, total=12)
    busy = stats_from_queue("b", "", before, QueueStats("q", pending=1, completed=11, deadletter=2))
    assert (busy.settled, busy.completed, busy.deadletter, busy.total) == (False, 1, 0, 2)
    done = stats_from_queue("b", "", before, QueueStats("q", completed=12, deadletter=3))
    assert (done.settled, done.completed, done.deadletter) == (True, 2, 1)


def test_following_a_batch_needs_no_arrow() -> None:
    # Airflow's triggerer imports it, and should stay small.
    code = (
        "import sys, spooled_pipelines.batch.aio.batch, spooled_pipelines.batch.sync.batch;"
        "sys.exit(bool({'pyarrow', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
