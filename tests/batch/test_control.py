"""A batch that is there: cancelled, retried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from spooled_pipelines.errors import BatchFailedError, InvalidArgumentError, NotFoundError
from spooled_pipelines.types import CancelResult
from tests.support.server_process import ServerProcess

Work = Callable[..., int]


@pytest.fixture(params=["extension"])
def any_server(server: ServerProcess) -> ServerProcess:
    """Only with the batch extension, unless a test says otherwise."""
    return server


def no_gate(payload: dict[str, Any]) -> dict[str, Any]:
    raise ValueError("no gate" if payload["flight"] % 2 else "no crew")


def test_cancel_says_what_became_of_the_jobs_and_ends_a_wait(
    door: Any, queue: str, flights: pa.Table, work: Work
) -> None:
    batch = door.enqueue_batch(flights, queue)
    work(queue, lambda payload: {}, limit=10)
    (running,) = door.dequeue(queue, "w")
    assert batch.cancel() == CancelResult(cancelled=49, running=1, done=10)
    assert not door.dequeue(queue, "w")
    door.complete(running)
    assert batch.wait(timeout=20, max_failed=49).cancelled == 49
    with pytest.raises(BatchFailedError, match="49 were cancelled"):
        batch.wait(timeout=20)
    assert door.batch(batch.id).cancel() == CancelResult(cancelled=49, running=0, done=11)


def test_dead_letters_go_back_and_the_batch_can_be_waited_for_again(
    door: Any, queue: str, flights: pa.Table, work: Work
) -> None:
    batch = door.enqueue_batch(flights, queue)
    work(queue, no_gate)
    with pytest.raises(BatchFailedError):
        batch.wait(timeout=20)
    assert batch.retry_failed(error_contains="gate") == 30
    assert batch.retry_failed(error_contains="gate") == 0
    stats = batch.stats()
    assert (stats.settled, stats.pending, stats.top_errors) == (False, 30, (("no crew", 30),))
    assert door.batch(batch.to_dict()).retry_failed() == 30
    work(queue, lambda payload: {"ok": True})
    assert batch.wait(timeout=20).completed == 60
    first, second = door.attempts(batch.ledger["job_id"][1].as_py())
    assert (first.number, first.error, second.number, second.error) == (1, "no gate", 2, None)
    assert first.ended_at <= second.started_at <= second.ended_at
    assert first.worker_id == second.worker_id == "worker-1"


def test_a_batch_that_is_not_there_is_named(door: Any) -> None:
    batch = door.batch("b_unknown")
    for call in (batch.cancel, batch.retry_failed):
        with pytest.raises(NotFoundError, match="b_unknown"):
            call()
    with pytest.raises(NotFoundError, match="no job"):
        door.attempts("unknown")


def test_a_plain_server_is_told_apart(
    open_door: Callable[..., Any], plain_server: ServerProcess, queue: str, flights: pa.Table
) -> None:
    batch = open_door(plain_server).enqueue_batch(flights, queue)
    for call in (batch.cancel, batch.retry_failed):
        with pytest.raises(InvalidArgumentError, match="keeps no batches"):
            call()
