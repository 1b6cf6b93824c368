"""`retry_backoff=` for all rows, in a column beside null, and for a single job."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

from spooled_pipelines.errors import BatchTimeoutError, InvalidArgumentError, RowsRejectedError
from spooled_pipelines.orchestration.progress_log import describe_batch
from tests.support.server_process import ServerProcess


def pauses(door: Any, queue: str) -> dict[Any, int]:
    """How long each job waits that fails now."""
    jobs = door.dequeue(queue, "worker-1", batch_size=100)
    return {job.payload["n"]: door.fail(job, "no").next_retry_delay for job in jobs}


@pytest.mark.parametrize("open_door", ["sync", "asyncio"], indirect=True)
def test_jobs_wait_as_long_as_their_row_their_batch_or_their_call_says(
    open_door: Callable[..., Any], server: ServerProcess, queue: str
) -> None:
    door = open_door(server)
    door.enqueue(queue, {"n": 1}, retry_backoff=timedelta(seconds=11))
    door.enqueue(queue, {"n": 2}, retry_backoff="12s", max_retries=0)
    door.enqueue_batch([{"n": 3}], queue, retry_backoff=[13, 14])
    rows = pd.DataFrame({"n": [4, 5, 6], "pause": [15.0, None, 17.0]})
    door.enqueue_batch(rows, queue, retry_backoff="pause")
    texts = [{"n": 7, "pause": "exponential 18s"}, {"n": 8, "pause": None}]
    door.enqueue_batch(texts, queue, retry_backoff="pause", tags={"team": "ops"})
    opened = door.open_batch(queue, queue, retry_backoff="20s")
    assert opened.add("p", [{"n": 9}]).created == 1
    assert pauses(door, queue) == {
        1: 11,
        2: 0,
        3: 13,
        4: 15,
        5: 60,
        6: 17,
        7: 18,
        8: 60,
        9: 20,
    }


def test_what_is_no_backoff_is_refused_before_anything_is_sent(
    open_door: Callable[..., Any], server: ServerProcess, queue: str
) -> None:
    door = open_door(server)
    for wrong, what in (
        (-1, "must have pauses of 0 seconds to 30 days, got -1"),
        ("sooon", "must be a number of seconds, or a text such as"),
        ("flag", "must be a column of seconds or of texts"),
    ):
        with pytest.raises(InvalidArgumentError, match=rf"retry_backoff.*{what}"):
            door.enqueue_batch([{"n": 1, "flag": True}], queue, retry_backoff=wrong)
    with pytest.raises(InvalidArgumentError, match="retry_backoff must"):
        door.enqueue(queue, {}, retry_backoff="soon")
    with pytest.raises(RowsRejectedError, match="retry_backoff"):
        door.enqueue_batch([{"n": 1, "pause": "soon"}], queue, retry_backoff="pause")
    assert door.queue_stats(queue).total == 0


def test_a_plain_server_is_not_sent_what_it_does_not_know(
    open_door: Callable[..., Any], plain_server: ServerProcess, queue: str
) -> None:
    door = open_door(plain_server)
    for call in (
        lambda: door.enqueue(queue, {"n": 1}, retry_backoff=5),
        lambda: door.enqueue_batch([{"n": 1}], queue, retry_backoff="5s"),
        lambda: door.enqueue_batch([{"n": 1, "p": 3}], queue, retry_backoff="p"),
        lambda: door.plan_batch([{"n": 1}], queue, retry_backoff=5),
    ):
        with pytest.raises(InvalidArgumentError, match=r"retry_backoff= .*batch extension"):
            call()
    assert door.queue_stats(queue).total == 0


def test_jobs_that_wait_say_with_which_error_and_when_the_first_is_tried_again(
    open_door: Callable[..., Any], server: ServerProcess, queue: str
) -> None:
    door = open_door(server)
    batch = door.enqueue_batch([{"n": 1}, {"n": 2}], queue, retry_backoff="1h")
    for job in door.dequeue(queue, "worker-1", batch_size=2):
        door.fail(job, "TimeoutError: the bank is closed\nFile bank.py")
    stats = batch.stats()
    (error,) = stats.waiting_errors
    assert (stats.waiting, error.count, error.error[:12]) == (2, 2, "TimeoutError")
    (listed,) = [each for each in door.queues() if each.name == queue]
    assert listed.waiting_errors == stats.waiting_errors
    line = f"the next at {error.next_at:%H:%M:%S} UTC. Most frequent: 2 × TimeoutError: the bank"
    assert line in describe_batch(stats)
    with pytest.raises(BatchTimeoutError, match=line):
        batch.wait(timeout=0.01)
