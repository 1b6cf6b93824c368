"""`max_retries=0` means none, for all rows, in a column beside null, and for a single job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from spooled_pipelines.errors import InvalidArgumentError
from tests.support.server_process import ServerProcess

REFUSED = r"max_retries=0 \(no retries\) needs a server with the batch extension"


def retries(door: Any, queue: str) -> list[int]:
    return sorted(job.max_retries for job in door.dequeue(queue, "worker-1", batch_size=100))


@pytest.mark.parametrize("open_door", ["sync", "asyncio"], indirect=True)
def test_no_retries_are_none_and_null_is_the_default(
    open_door: Callable[..., Any], server: ServerProcess, queue: str
) -> None:
    door = open_door(server)
    # As large as a payload of any other call.
    door.enqueue(queue, {"n": "x" * 1_000_000}, max_retries=0)
    door.enqueue_batch([{"n": 2}], queue, max_retries=0)
    tries = pd.DataFrame({"n": [3, 4, 5], "tries": [0, None, 7]})
    door.enqueue_batch(tries, queue, max_retries="tries")
    assert door.open_batch(queue, queue, max_retries=0).add("p", [{"n": 6}]).created == 1
    assert retries(door, queue) == [0, 0, 0, 0, 3, 7]


def test_a_job_without_retries_is_dead_after_its_first_failure(
    open_door: Callable[..., Any], server: ServerProcess, queue: str
) -> None:
    door = open_door(server)
    sent = door.enqueue(queue, {"n": 1}, max_retries=0)
    (job,) = door.dequeue(queue, "worker-1")
    assert not door.fail(job, "no").will_retry
    assert door.get_job(sent.job_id).status == "deadletter"


@pytest.mark.parametrize("open_door", ["sync", "asyncio"], indirect=True)
def test_a_plain_server_is_not_sent_what_it_would_take_for_the_default(
    open_door: Callable[..., Any], plain_server: ServerProcess, queue: str
) -> None:
    door = open_door(plain_server)
    rows = [{"n": 1, "tries": 0}, {"n": 2, "tries": None}]
    for call in (
        lambda: door.enqueue(queue, {"n": 1}, max_retries=0),
        lambda: door.enqueue_batch([{"n": 1}], queue, max_retries=0),
        lambda: door.enqueue_batch(rows, queue, max_retries="tries"),
        lambda: door.plan_batch(rows, queue, max_retries="tries"),
        lambda: door.open_batch(queue, queue).add("p", rows, max_retries="tries"),
    ):
        with pytest.raises(InvalidArgumentError, match=REFUSED):
            call()
    assert door.queue_stats(queue).total == 0
    door.enqueue_batch([{"n": 1, "tries": 1}, {"n": 2, "tries": None}], queue, max_retries="tries")
    assert retries(door, queue) == [1, 3]
