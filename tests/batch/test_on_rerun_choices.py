"""The same call again: resume, retry_failed, fresh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from spooled_pipelines.errors import InvalidArgumentError
from tests.support.server_process import ServerProcess

Work = Callable[..., int]


@pytest.fixture(params=["extension"])
def any_server(server: ServerProcess) -> ServerProcess:
    """Only with the batch extension, unless a test says otherwise."""
    return server


@pytest.fixture(params=["monday", None])
def name(request: pytest.FixtureRequest) -> Any:
    """With a name, and without."""
    return request.param


def fail_odd(payload: dict[str, Any]) -> dict[str, Any]:
    if payload["flight"] % 2:
        raise ValueError("no gate")
    return {}


def ids(batch: Any) -> set[str]:
    return set(batch.ledger["job_id"].to_pylist())


def counts(batch: Any) -> tuple[int, int, int]:
    return batch.created, batch.duplicates, batch.retried


def cut_short(door: Any, flights: pa.Table, queue: str, **options: Any) -> None:
    """An upload that somebody breaks off after its rows are in, before the seal."""

    def stop(sent: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        door.enqueue_batch(flights, queue, progress=stop, **options)


def test_resume_leaves_dead_letters_dead(
    door: Any, queue: str, flights: pa.Table, work: Work, name: str | None
) -> None:
    door.enqueue_batch(flights, queue, name=name)
    work(queue, fail_odd)
    again = door.enqueue_batch(flights, queue, name=name)
    assert (counts(again), again.generation) == ((0, 60, 0), 0)
    assert again.stats().deadletter == 30


def test_retry_failed_puts_them_back_and_sends_what_is_missing(
    door: Any, queue: str, flights: pa.Table, work: Work
) -> None:
    door.enqueue_batch(flights.slice(0, 50), queue, name="monday", on_rerun="retry_failed")
    work(queue, fail_odd)
    again = door.enqueue_batch(flights, queue, name="monday", on_rerun="retry_failed")
    assert counts(again) == (10, 50, 25)
    assert work(queue, lambda payload: {}) == 35
    assert again.wait(timeout=20).completed == 60


def test_retry_failed_reaches_dead_letters_of_another_table_with_the_same_rows(
    door: Any, queue: str, flights: pa.Table, work: Work
) -> None:
    door.enqueue_batch(flights.slice(0, 10), queue)
    work(queue, fail_odd)
    more = door.enqueue_batch(flights, queue, on_rerun="retry_failed")
    assert counts(more) == (50, 10, 5)


def test_fresh_makes_every_row_a_new_job_and_cancels_what_had_not_started(
    door: Any, queue: str, flights: pa.Table, work: Work, name: str | None
) -> None:
    first = door.enqueue_batch(flights, queue, name=name, on_rerun="fresh")
    assert (counts(first), first.generation) == ((60, 0, 0), 0)
    work(queue, lambda payload: {}, limit=20)
    second = door.enqueue_batch(flights, queue, name=name, on_rerun="fresh")
    assert (second.id, second.generation, counts(second)) == (first.id, 1, (60, 0, 0))
    assert not ids(first) & ids(second)
    stats = second.stats()
    assert (stats.generation, stats.total, stats.pending, stats.sealed) == (1, 60, 60, True)
    assert {door.get_job(job_id).status for job_id in ids(first)} == {"completed", "cancelled"}
    # From here on the newest generation is what is resumed.
    again = door.enqueue_batch(flights, queue, name=name)
    assert (counts(again), again.generation, ids(again)) == ((0, 60, 0), 1, ids(second))
    assert work(queue, lambda payload: {"ok": True}) == 60
    assert second.wait(timeout=20).completed == 60
    assert second.results().num_rows == 60
    third = door.enqueue_batch(flights, queue, name=name, on_rerun="fresh")
    assert (counts(third), third.generation) == ((60, 0, 0), 2)


def test_a_late_cancel_of_the_first_run_leaves_the_fresh_one_alone(
    door: Any, queue: str, flights: pa.Table
) -> None:
    first = door.enqueue_batch(flights, queue, name="monday")
    second = door.enqueue_batch(flights, queue, name="monday", on_rerun="fresh")
    assert door.batch(first.to_dict()).cancel().cancelled == 60
    assert second.stats().pending == 60
    assert second.cancel().cancelled == 120


def test_a_fresh_call_that_was_cut_short_is_finished_not_begun_again(
    door: Any, queue: str, flights: pa.Table, name: str | None
) -> None:
    door.enqueue_batch(flights, queue, name=name)
    cut_short(door, flights, queue, name=name, on_rerun="fresh")
    again = door.enqueue_batch(flights, queue, name=name, on_rerun="fresh")
    assert (again.generation, counts(again)) == (1, (0, 60, 0))
    stats = door.queue_stats(queue)
    assert (stats.total, stats.pending) == (120, 60)
    assert again.stats().sealed


def test_equal_rows_stay_jobs_of_their_own_in_every_generation(door: Any, queue: str) -> None:
    rows = [{"a": 1}, {"a": 2}, {"a": 1}]
    door.enqueue_batch(rows, queue)
    fresh = door.enqueue_batch(rows, queue, on_rerun="fresh")
    assert (fresh.created, len(ids(fresh))) == (3, 3)
    # Another table's first generation is not this one's second.
    assert door.enqueue_batch([*rows, {"a": 3}], queue).duplicates == 3
    assert door.enqueue_batch([*rows, {"a": 3}], queue, on_rerun="fresh").created == 4


def test_an_unknown_choice_is_refused(door: Any, queue: str, flights: pa.Table) -> None:
    with pytest.raises(InvalidArgumentError, match="'resume', 'retry_failed' or 'fresh'"):
        door.enqueue_batch(flights, queue, on_rerun="again")


def test_a_plain_server_resumes_and_refuses_the_rest(
    open_door: Callable[..., Any], plain_server: ServerProcess, queue: str, flights: pa.Table
) -> None:
    door = open_door(plain_server)
    for on_rerun in ("retry_failed", "fresh"):
        with pytest.raises(InvalidArgumentError, match=f'on_rerun="{on_rerun}" needs a server'):
            door.enqueue_batch(flights, queue, on_rerun=on_rerun)
    assert door.queue_stats(queue).total == 0
    assert door.enqueue_batch(flights, queue, on_rerun="resume").created == 60
