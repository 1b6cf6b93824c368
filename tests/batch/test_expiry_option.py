"""`expires_at=` and `ttl=` for all rows, in a column beside null, and for a single job."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pandas as pd
import pytest

from spooled_pipelines.errors import BatchFailedError, InvalidArgumentError
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually


@pytest.mark.parametrize("open_door", ["sync", "asyncio"], indirect=True)
def test_what_is_too_late_is_cancelled_counted_apart_and_may_be_allowed(
    open_door: Callable[..., Any], server: ServerProcess, queue: str
) -> None:
    door = open_door(server)
    past = datetime.now(timezone.utc) - timedelta(seconds=1)
    late = door.enqueue(queue, {"n": 1}, expires_at=past)
    door.enqueue(queue, {"n": 2}, ttl="1h")
    rows = pd.DataFrame(
        {"n": [3, 4, 5], "until": [past, None, past + timedelta(hours=1)]},
    )
    batch = door.enqueue_batch(rows, queue, expires_at="until")
    other = door.enqueue_batch([{"n": 6}], queue, ttl=0, name=queue)
    taken = door.dequeue(queue, "worker-1", batch_size=100)
    assert sorted(job.payload["n"] for job in taken) == [2, 4, 5]
    eventually(lambda: other.stats().settled)
    assert door.get_job(late.job_id).status == "cancelled"
    stats = other.wait(timeout=10, allow_expired=True)
    assert (stats.cancelled, stats.expired) == (1, 1)
    with pytest.raises(BatchFailedError, match=r"1 were cancelled \(1 of them expired\)"):
        other.wait(timeout=10)
    assert batch.stats().expired == 1


def test_what_says_nothing_is_refused(
    open_door: Callable[..., Any], server: ServerProcess, queue: str
) -> None:
    door = open_door(server)
    now = datetime.now(timezone.utc)
    for wrong, what in (
        ({"ttl": -1}, "ttl must be 0 seconds to 30 days"),
        ({"ttl": "soon"}, 'or a text such as "2h"'),
        ({"ttl": 5, "expires_at": now}, "pass one of them"),
        ({"expires_at": now.replace(tzinfo=None)}, "expires_at must have a time zone"),
        ({"expires_at": "n"}, "expires_at='n' must be a column of times"),
    ):
        with pytest.raises(InvalidArgumentError, match=what):
            door.enqueue_batch([{"n": 1}], queue, **wrong)
    assert door.queue_stats(queue).total == 0


def test_a_plain_server_is_not_sent_what_it_does_not_know(
    open_door: Callable[..., Any], plain_server: ServerProcess, queue: str
) -> None:
    door = open_door(plain_server)
    now = datetime.now(timezone.utc)
    for call in (
        lambda: door.enqueue(queue, {"n": 1}, ttl=5),
        lambda: door.enqueue_batch([{"n": 1}], queue, ttl="5m"),
        lambda: door.enqueue_batch([{"n": 1, "until": now}], queue, expires_at="until"),
    ):
        with pytest.raises(InvalidArgumentError, match=r"expires_at= or ttl= .*batch extension"):
            call()
    assert door.queue_stats(queue).total == 0
