"""A queue need not hold all of a large table at once (`max_outstanding`)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from spooled_pipelines import connect
from spooled_pipelines.errors import InvalidArgumentError
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from typing_extensions import Self

LIMIT = 40


class Worker:
    """Settles jobs while it notes how many there are, until all are done."""

    def __init__(self, server: ServerProcess, queue: str, total: int) -> None:
        self.most = 0
        self._server, self._queue, self._total = server, queue, total
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self.join()

    def join(self) -> None:
        self._thread.join()

    def _work(self) -> None:
        done = 0
        with connect(self._server.address, api_key=self._server.api_key) as client:
            while done < self._total:
                stats = client.queue_stats(self._queue)
                self.most = max(self.most, stats.pending + stats.scheduled + stats.processing)
                jobs = client.dequeue(self._queue, "w", batch_size=10)
                # Some came between the two.
                self.most = max(self.most, len(jobs))
                for job in jobs:
                    if done % 7:
                        client.complete(job)
                    else:
                        client.fail(job, "boom", retry=False)
                    done += 1


def test_no_more_jobs_than_wanted_are_open_at_once(
    door: Any, any_server: ServerProcess, queue: str
) -> None:
    table = pa.table({"n": range(200)})
    with Worker(any_server, queue, 200) as worker:
        batch = door.enqueue_batch(table, queue, max_outstanding=LIMIT)
    assert 0 < worker.most <= LIMIT
    assert (batch.created, batch.stats().total) == (200, 200)
    assert batch.ledger["row"].to_pylist() == list(range(200))
    # Again there is nothing that anyone would have to wait for.
    again = door.enqueue_batch(table, queue, max_outstanding=LIMIT)
    assert (again.created, again.duplicates) == (0, 200)


def test_what_others_have_on_the_queue_does_not_count(
    door: Any, any_server: ServerProcess, queue: str
) -> None:
    later = datetime(2100, 1, 1, tzinfo=timezone.utc)
    door.enqueue_batch(pa.table({"other": range(100)}), queue, scheduled_at=later)
    table = pa.table({"n": range(60)})
    with Worker(any_server, queue, 60) as worker:
        batch = door.enqueue_batch(table, queue, max_outstanding=20)
    assert batch.created == 60
    assert 100 < worker.most <= 120


def test_an_upload_that_waits_survives_a_server_that_comes_back(
    open_door: Callable[..., Any], start_server: Callable[..., ServerProcess], queue: str
) -> None:
    server = start_server()
    door = open_door(server)
    table = pa.table({"n": range(120)})
    made: list[Any] = []

    def progress(sent: int, total: int) -> None:
        if sent >= LIMIT and server.running and not made:
            made.append(sent)
            server.kill()
            server.restart()
            worker.start()

    worker = Worker(server, queue, 120)
    batch = door.enqueue_batch(table, queue, max_outstanding=LIMIT, progress=progress)
    worker.join()
    assert made
    assert (batch.created, worker.most <= LIMIT) == (120, True)


def test_a_limit_of_one_is_a_job_at_a_time(
    door: Any, any_server: ServerProcess, queue: str
) -> None:
    with Worker(any_server, queue, 5) as worker:
        assert door.enqueue_batch([{"n": n} for n in range(5)], queue, max_outstanding=1).rows == 5
    assert worker.most == 1


def test_a_part_waits_until_few_enough_of_the_batch_s_jobs_are_open(
    door: Any, any_server: ServerProcess, queue: str
) -> None:
    batch = door.open_batch("in parts", queue)
    batch.add("first", pa.table({"n": range(LIMIT)}))
    with Worker(any_server, queue, 120 + LIMIT) as worker:
        part = batch.add("second", pa.table({"n": range(1_000, 1_120)}), max_outstanding=LIMIT)
    # A plain server's parts know of their own jobs alone.
    assert 0 < worker.most <= LIMIT * (2 if any_server.arguments else 1)
    assert (part.created, part.duplicates) == (120, 0)
    assert batch.seal().wait(timeout=30, max_failed=1.0).total == 120 + LIMIT


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "10"])
def test_what_is_no_limit_is_refused(door: Any, queue: str, limit: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="max_outstanding"):
        door.enqueue_batch([{"n": 1}], queue, max_outstanding=limit)
    with pytest.raises(InvalidArgumentError, match="max_outstanding"):
        door.open_batch("b", queue).add("p", [{"n": 1}], max_outstanding=limit)
    assert door.queue_stats(queue).total == 0
