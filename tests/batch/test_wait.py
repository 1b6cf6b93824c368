"""Where a batch stands, the wait for it, and what came out of it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from spooled_pipelines.errors import (
    BatchFailedError,
    BatchTimeoutError,
    InvalidArgumentError,
    NotFoundError,
)

Work = Callable[..., int]


def doubled(payload: dict[str, Any]) -> dict[str, Any]:
    return {"twice": 2 * payload["flight"], "carrier": payload["carrier"].lower()}


def failing(payload: dict[str, Any]) -> dict[str, Any]:
    if payload["flight"] % 3 == 0:
        raise ValueError(f"no gate for {payload['carrier']}")
    return {"ok": True}


def every_third() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A handler that fails its first call, its fourth, and so on."""
    calls = itertools.count()

    def handle(payload: dict[str, Any]) -> dict[str, Any]:
        if next(calls) % 3 == 0:
            raise ValueError("no gate for it")
        return {"ok": True}

    return handle


def test_stats_count_each_job_once(door: Any, queue: str, flights: pa.Table, work: Work) -> None:
    batch = door.enqueue_batch(flights, queue)
    stats = batch.stats()
    assert (stats.total, stats.pending, stats.sealed, stats.settled) == (60, 60, True, False)
    handle = every_third()
    work(queue, handle, limit=30)
    stats = batch.stats()
    assert (stats.total, stats.pending, stats.completed, stats.deadletter) == (60, 30, 20, 10)
    work(queue, handle)
    stats = batch.stats()
    assert (stats.completed, stats.deadletter, stats.open, stats.settled) == (40, 20, 0, True)
    assert stats.top_errors[0] == ("no gate for it", 20)


def test_wait_returns_once_every_job_is_settled(
    door: Any, queue: str, flights: pa.Table, work: Work
) -> None:
    batch = door.enqueue_batch(flights, queue)
    worker = threading.Thread(target=work, args=(queue, doubled))
    worker.start()
    seen: list[int] = []
    stats = batch.wait(timeout=30, on_progress=lambda stats: seen.append(stats.completed))
    worker.join()
    assert (stats.settled, stats.completed, stats.failed) == (True, 60, 0)
    assert seen == sorted(seen)
    assert seen[-1] == 60


def test_wait_from_another_process_needs_only_the_dict(
    door: Any, queue: str, flights: pa.Table, work: Work
) -> None:
    kept = door.enqueue_batch(flights, queue).to_dict()
    found = door.batch(kept)
    with pytest.raises(BatchTimeoutError):
        found.wait(timeout=0.2)
    work(queue, every_third())
    assert found.wait(timeout=30, max_failed=20).deadletter == 20
    with pytest.raises(BatchFailedError):
        door.batch(kept).wait(timeout=30)


def test_a_batch_that_was_done_before_is_done_at_once(
    door: Any, queue: str, flights: pa.Table, work: Work
) -> None:
    door.enqueue_batch(flights, queue)
    work(queue, doubled)
    again = door.enqueue_batch(flights, queue)
    assert again.duplicates == 60
    assert again.wait(timeout=30).completed == 60


def test_what_the_last_look_sees_settled_is_settled(
    door: Any, queue: str, flights: pa.Table, work: Work
) -> None:
    batch = door.enqueue_batch(flights, queue)
    work(queue, every_third())
    assert batch.wait(timeout=0, max_failed=20).deadletter == 20
    with pytest.raises(BatchFailedError):
        batch.wait(timeout=0)


def test_only_this_batch_counts_on_a_shared_queue(
    door: Any, queue: str, flights: pa.Table, work: Work
) -> None:
    first = door.enqueue_batch(flights.slice(0, 30), queue, priority=10)
    second = door.enqueue_batch(flights.slice(30), queue)
    work(queue, every_third(), limit=30)
    assert first.wait(timeout=30, max_failed=10).completed == 20
    stats = second.stats()
    assert (stats.total, stats.pending, stats.failed, stats.settled) == (30, 30, 0, False)


def test_wait_fails_early_and_names_the_top_errors(
    door: Any, queue: str, flights: pa.Table, work: Work
) -> None:
    batch = door.enqueue_batch(flights, queue)
    work(queue, every_third(), limit=30)
    with pytest.raises(BatchFailedError, match="10 × no gate for it") as caught:
        batch.wait(timeout=60, max_failed=9)
    assert "max_failed=9" in str(caught.value)
    assert caught.value.stats is not None
    assert (caught.value.stats.deadletter, caught.value.stats.open) == (10, 30)
    with pytest.raises(BatchFailedError, match=r"10\.00%"):
        batch.wait(timeout=60, max_failed=0.1)
    with pytest.raises(BatchTimeoutError):
        batch.wait(timeout=0.2, max_failed=10)


def test_running_out_of_time_names_what_holds_the_batch_back(
    door: Any, queue: str, flights: pa.Table
) -> None:
    batch = door.enqueue_batch(flights, queue)
    with pytest.raises(BatchTimeoutError, match=f"worker.*{queue}|{queue}.*worker") as caught:
        batch.wait(timeout=0.5)
    assert "60 pending" in str(caught.value)
    assert caught.value.stats is not None
    assert caught.value.stats.stalls[0].cause == "no_worker"


@pytest.mark.parametrize("wrong", [-1, 1.5, "2", True, None])
def test_max_failed_is_a_count_or_a_share(
    door: Any, queue: str, flights: pa.Table, wrong: Any
) -> None:
    with pytest.raises(InvalidArgumentError, match="max_failed"):
        door.enqueue_batch(flights, queue).wait(max_failed=wrong)


def test_watch_shows_changes_and_ends_when_all_is_settled(
    door: Any, queue: str, flights: pa.Table, work: Work
) -> None:
    batch = door.enqueue_batch(flights, queue)
    seen = []
    for stats in batch.watch():
        seen.append(stats)
        work(queue, doubled, limit=20)
    assert (seen[0].completed, seen[0].settled) == (0, False)
    assert (seen[-1].completed, seen[-1].settled) == (60, True)
    assert all(a != b for a, b in itertools.pairwise(seen))


def test_results_are_a_table_in_the_order_of_the_rows(
    door: Any, queue: str, flights: pa.Table, work: Work
) -> None:
    batch = door.enqueue_batch(flights, queue)
    done: set[int] = set()

    def note(payload: dict[str, Any]) -> dict[str, Any]:
        done.add(payload["flight"])
        return doubled(payload)

    work(queue, note, limit=50)
    table = batch.results()
    assert table.schema.names == ["row", "job_id", "status", "error", "carrier", "twice"]
    assert table["row"].to_pylist() == list(range(60))
    assert table["job_id"] == batch.ledger["job_id"]
    assert len(done) == 50
    for row, line in enumerate(table.to_pylist()):
        expected = ("completed", 2 * row) if row in done else ("pending", None)
        assert (line["status"], line["twice"]) == expected
    assert table["twice"].type == pa.int64()
    assert table["carrier"].type == pa.string()


def test_results_hold_errors_and_rows_that_were_no_jobs(door: Any, queue: str, work: Work) -> None:
    rows = [{"flight": 3, "carrier": "AA"}, {"flight": None, "carrier": "B6"}]
    rows += [{"flight": 4, "carrier": "UA"}, {"flight": 3, "carrier": "again"}]
    batch = door.enqueue_batch(rows, queue, key="flight", on_rejected="skip")
    work(queue, failing)
    table = batch.results().to_pylist()
    assert [line["status"] for line in table] == [
        "deadletter",
        "rejected",
        "completed",
        "deadletter",
    ]
    assert [line["error"] for line in table] == [
        "no gate for AA",
        "key column 'flight' is null",
        None,
        "no gate for AA",
    ]
    assert [line["ok"] for line in table] == [None, None, True, None]


def test_result_fields_never_hide_our_columns_and_mixed_ones_are_text(
    door: Any, queue: str, work: Work
) -> None:
    batch = door.enqueue_batch([{"n": 1}, {"n": 2}, {"n": 3}], queue)
    answers: dict[int, Any] = {1: 1, 2: "two", 3: {"three": [3]}}
    work(
        queue,
        lambda payload: {
            "status": "mine",
            "mixed": answers[payload["n"]],
            "half": payload["n"] / 2,
            "nested": {"n": payload["n"]},
        },
    )
    table = batch.results()
    assert table.schema.names[4:] == ["half", "mixed", "nested", "result.status"]
    assert table["status"].to_pylist() == ["completed"] * 3
    assert table["result.status"].to_pylist() == ["mine"] * 3
    assert table["mixed"].to_pylist() == ["1", '"two"', '{"three": [3]}']
    assert table["half"].to_pylist() == [0.5, 1.0, 1.5]
    assert table["nested"].to_pylist() == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_a_batch_found_by_its_id_has_results_in_the_order_of_enqueueing(
    open_door: Any, server: Any, queue: str, flights: pa.Table
) -> None:
    door = open_door(server)
    batch = door.enqueue_batch(flights, queue)
    table = door.batch(batch.id).results()
    assert table["job_id"].to_pylist() == batch.ledger["job_id"].to_pylist()
    assert table["row"].null_count == 60


def test_a_plain_server_finds_no_batch_by_its_id(
    open_door: Any, plain_server: Any, queue: str, flights: pa.Table
) -> None:
    door = open_door(plain_server)
    batch = door.enqueue_batch(flights, queue)
    with pytest.raises(InvalidArgumentError, match="keeps no batches"):
        door.batch(batch.id).stats()
    with pytest.raises(InvalidArgumentError, match="keeps no batches"):
        door.batch(batch.to_dict()).results()


def test_a_batch_that_is_not_there_is_not_found(open_door: Any, server: Any) -> None:
    missing = open_door(server).batch("b_" + "0" * 32)
    with pytest.raises(NotFoundError):
        missing.stats()
    with pytest.raises(NotFoundError):
        missing.wait(timeout=5)


def test_a_breach_stops_what_has_not_started_where_that_is_wanted(
    open_door: Callable[..., Any], server: Any, queue: str, flights: pa.Table
) -> None:
    door = open_door(server)
    batch = door.enqueue_batch(flights, queue)
    first, second, running = door.dequeue(queue, "w", batch_size=3)
    door.fail(first, "no gate", retry=False)
    door.fail(second, "no gate", retry=False)
    with pytest.raises(BatchFailedError, match="57 are now, 1 go on") as caught:
        batch.wait(timeout=30, max_failed=1, on_breach="stop")
    assert caught.value.stats.deadletter == 2
    stats = batch.stats()
    assert (stats.cancelled, stats.processing, stats.pending) == (57, 1, 0)
    door.complete(running)
    assert batch.stats().settled


def test_a_plain_server_cannot_stop_a_batch_and_says_so_at_once(
    open_door: Callable[..., Any], plain_server: Any, queue: str, flights: pa.Table
) -> None:
    batch = open_door(plain_server).enqueue_batch(flights, queue)
    with pytest.raises(InvalidArgumentError, match="batch extension"):
        batch.wait(timeout=30, on_breach="stop")


def test_a_bar_shows_how_the_wait_goes(
    door: Any, queue: str, flights: pa.Table, work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = door.enqueue_batch(flights, queue, name="nightly")
    work(queue, every_third())
    batch.wait(timeout=30, max_failed=1.0, on_progress=True)
    shown = capsys.readouterr().err
    assert "jobs of nightly" in shown
    assert "60" in shown
    for option in ({"on_progress": "yes"}, {"on_breach": "cancel"}):
        with pytest.raises(InvalidArgumentError, match=next(iter(option))):
            batch.wait(**option)
