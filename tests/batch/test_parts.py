"""A batch that comes in parts, from anybody and as often as anybody likes: each row is one job."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from spooled_pipelines import connect
from spooled_pipelines.errors import (
    BatchTimeoutError,
    ConflictError,
    InvalidArgumentError,
    LossyValueError,
    PartsMissingError,
    RowsRejectedError,
)
from spooled_pipelines.rpc.retry import RetryPolicy
from tests.support import forked
from tests.support.server_process import ServerProcess

PLAIN = "--no-batch-extension"


def counts(part: Any) -> tuple[int, int, int]:
    return part.created, part.duplicates, part.rejected


def rows(first: int, count: int) -> list[dict[str, Any]]:
    return [{"n": n, "text": f"row {n}"} for n in range(first, first + count)]


def knows_batches(server: ServerProcess) -> bool:
    return PLAIN not in server.arguments


def test_parts_make_one_batch(
    door: Any, queue: str, work: Callable[..., int], any_server: ServerProcess
) -> None:
    opened = door.open_batch("nightly", queue)
    assert counts(opened.add("a", rows(0, 30))) == (30, 0, 0)
    assert counts(opened.add("b", pa.Table.from_pylist(rows(30, 10)))) == (10, 0, 0)
    whole = door.batch(opened.to_dict() | {"batch_id": opened.id})
    if knows_batches(any_server):
        # What is there may be worked on already, and is not taken for all.
        assert (whole.stats().total, whole.stats().sealed) == (40, False)
        with pytest.raises(BatchTimeoutError, match="not settled"):
            whole.wait(timeout=0.1)
    batch = opened.seal(expected_parts=2)
    assert (batch.id, batch.rows, *counts(batch)) == (opened.id, 40, 40, 0, 0)
    assert work(queue, lambda payload: {"twice": 2 * payload["n"]}) == 40
    stats = batch.wait(timeout=30)
    assert (stats.total, stats.completed, stats.sealed) == (40, 40, True)
    assert sorted(batch.results()["twice"].to_pylist()) == list(range(0, 80, 2))


def test_a_batch_in_parts_is_the_batch_of_that_name(door: Any, queue: str) -> None:
    opened = door.open_batch("nightly", queue, key="n")
    opened.add(1, rows(0, 5))
    opened.add(2, rows(5, 5))
    sealed = opened.seal([1, "2"])
    again = door.enqueue_batch(rows(0, 12), queue, key="n", name="nightly")
    assert (again.id, counts(again)) == (sealed.id, (2, 10, 0))


@pytest.mark.parametrize("key", [None, "n"])
def test_the_same_part_again_creates_nothing(door: Any, queue: str, key: str | None) -> None:
    data = [*rows(0, 20), *([] if key else rows(3, 2))]
    shuffled = random.Random(5).sample(data, len(data))
    first = door.open_batch("nightly", queue, key=key)
    made = first.add("x", data)
    assert counts(made) == (len(data), 0, 0)
    assert counts(first.add("x", shuffled)) == (0, len(data), 0)
    later = door.open_batch("nightly", queue, key=key)
    again = later.add("x", shuffled)
    assert counts(again) == (0, len(data), 0)
    ids = set(made.ledger["job_id"].to_pylist())
    assert len(ids) == len(data)
    assert set(again.ledger["job_id"].to_pylist()) == ids
    assert later.seal(1).id == first.id
    assert door.queue_stats(queue).total == len(data)


def test_equal_rows_of_two_parts_are_two_jobs_unless_a_key_says_otherwise(
    door: Any, queue: str
) -> None:
    same = [{"n": 1}, {"n": 1}]
    by_content = door.open_batch("by content", queue)
    assert [counts(by_content.add(part, same)) for part in "ab"] == [(2, 0, 0)] * 2
    by_key = door.open_batch("by key", queue, key="n")
    assert [counts(by_key.add(part, same)) for part in "ab"] == [(1, 1, 0), (0, 2, 0)]
    assert by_key.seal(2).stats().total in (1, 5)  # a plain server's queue holds both
    assert door.queue_stats(queue).total == 5


def test_with_a_key_it_does_not_matter_how_the_table_is_cut(door: Any, queue: str) -> None:
    first = door.open_batch("nightly", queue, key="n")
    first.add("a", rows(0, 10))
    first.add("b", rows(10, 10))
    again = door.open_batch("nightly", queue, key="n")
    assert [counts(again.add(part, rows(5 * part, 5))) for part in range(4)] == [(0, 5, 0)] * 4
    assert door.queue_stats(queue).total == 20


def test_a_part_may_be_empty(door: Any, queue: str) -> None:
    opened = door.open_batch("nightly", queue, key="n")
    for number, empty in enumerate(
        ([], iter(()), pa.table({"n": pa.array([], pa.int64())}), pd.DataFrame([]))
    ):
        assert (opened.add(number, empty).rows, *counts(opened.add(number, empty))) == (0, 0, 0, 0)
    opened.add("rest", rows(0, 3))
    assert opened.seal(5).stats().total == 3


def test_a_batch_of_empty_parts_has_results_without_rows(spooled_client: Any, queue: str) -> None:
    opened = spooled_client.open_batch("nothing", queue, key="n")
    opened.add("all", [])
    sealed = opened.seal()
    for batch in (sealed, spooled_client.batch(sealed.id)):
        assert batch.results(payload=True).num_rows == 0
        assert batch.results(schema={"x": pa.int64()}).schema.field("x").type == pa.int64()


def test_a_part_of_which_nothing_can_be_a_job_is_in_where_that_is_wanted(
    door: Any, queue: str
) -> None:
    opened = door.open_batch("nightly", queue, key="n")
    bad = [{"n": None}, {"n": None}]
    with pytest.raises(RowsRejectedError, match="nothing was sent"):
        opened.add("x", bad)
    with pytest.raises(PartsMissingError):
        opened.seal(1)
    assert counts(opened.add("x", bad, on_rejected="skip")) == (0, 0, 2)
    assert opened.seal(1).rejected == 2


def test_a_seal_names_the_parts_that_are_missing(
    door: Any, queue: str, any_server: ServerProcess
) -> None:
    opened = door.open_batch("nightly", queue)
    for part in "ac":
        opened.add(part, rows(0, 2))
    with pytest.raises(PartsMissingError, match=r"2 of 4 parts are in\. Missing: 'b', 'd'") as why:
        opened.seal(["a", "b", "c", "d"])
    assert (why.value.missing, why.value.finished, why.value.expected) == (("b", "d"), 2, 4)
    with pytest.raises(
        PartsMissingError, match=r"2 of 3 parts are in\. 1 more have not begun"
    ) as why:
        opened.seal(3)
    assert (why.value.missing, why.value.finished, why.value.expected) == ((), 2, 3)
    with pytest.raises(PartsMissingError, match=r"2 of 1 parts are in\. Pass the ids"):
        opened.seal(1)
    # Those that nobody means are no hindrance.
    assert opened.seal(["c"]).id == opened.id
    if not knows_batches(any_server):
        with pytest.raises(PartsMissingError, match="keeps no batches"):
            opened.seal(3)


def test_a_part_that_was_half_sent_does_not_count(
    open_door: Callable[..., Any], server: ServerProcess, queue: str
) -> None:
    door = open_door(server)
    opened = door.open_batch("nightly", queue)
    table = pa.table({"n": range(1_400), "text": ["x" * 3_000] * 1_400})

    def stop(sent: int, total: int) -> None:
        assert sent < total
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        opened.add("half", table, progress=stop)
    said = " ".join([*map(str, caught.value.args), *getattr(caught.value, "__notes__", [])])
    assert "part 'half' of batch" in said
    assert "not finished" in said
    opened.add("whole", rows(0, 1))
    assert [(p.part_id, p.finished) for p in opened.parts()] == [("half", False), ("whole", True)]
    for expected in (None, 2, ["half", "whole"]):
        with pytest.raises(PartsMissingError, match="'half'") as why:
            opened.seal(expected)
        assert why.value.missing == ("half",)
    # Nor may anybody else seal it meanwhile.
    with pytest.raises(PartsMissingError, match="'half'"):
        door.enqueue_batch(rows(0, 1), queue, name="nightly")
    made = opened.add("half", table)
    assert (made.created + made.duplicates, made.created < 1_400) == (1_400, True)
    assert opened.seal(2).stats().total == 1_402


def test_the_same_part_twice_at_once_is_there_once(
    any_server: ServerProcess, queue: str, door: Any
) -> None:
    """As a speculative attempt does it."""
    opened = door.open_batch("nightly", queue)
    plain = not knows_batches(any_server)
    size = 500 if plain else 3_000
    table = pa.table({"n": range(size), "text": ["x" * 3_000] * size})
    saved = opened.to_dict()
    made: list[Any] = []

    def attempt() -> None:
        with connect(any_server.address, api_key=any_server.api_key) as own:
            made.append(own.open_batch(saved).add("x", table))

    threads = [threading.Thread(target=attempt) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(part.created for part in made) == len(table)
    assert sum(part.duplicates for part in made) == len(table)
    batch = opened.seal(1, added=[made[0]])
    assert batch.stats().total == len(table)


_ADDER = """
import json, sys
from spooled_pipelines import connect

address, key, part, parts = sys.argv[1:5]
with connect(address, api_key=key) as client:
    opened = client.open_batch(json.load(sys.stdin))
    rows = [{"n": n} for n in range(int(part), 1_000, int(parts))]
    print(json.dumps(opened.add(part, rows).to_dict()))
"""


def test_parts_come_from_many_processes(any_server: ServerProcess, queue: str, door: Any) -> None:
    due = datetime(2030, 1, 1, tzinfo=timezone.utc)
    opened = door.open_batch(
        "nightly", queue, payload={"number": "n"}, scheduled_at=due, spread=timedelta(hours=1)
    )
    saved = json.dumps(opened.to_dict())
    command = [sys.executable, "-c", _ADDER, any_server.address, any_server.api_key]
    running = [
        forked.Popen(
            [*command, str(part), "3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for part in range(3)
    ]
    added = [json.loads(process.communicate(saved)[0]) for process in running]
    assert [process.wait() for process in running] == [0, 0, 0]
    batch = opened.seal(3, added=added)
    assert (batch.rows, *counts(batch)) == (1_000, 1_000, 0, 0)
    stats = batch.stats()
    assert (stats.total, stats.scheduled) == (1_000, 1_000)
    if knows_batches(any_server):
        assert [part.rows for part in opened.parts()] == [334, 333, 333]
        job = door.get_job(door.batch(batch.id).results()["job_id"][0].as_py())
        assert list(job.payload) == ["number"]
        assert due <= job.scheduled_at < due + timedelta(hours=1)


def test_a_part_may_differ_from_the_others_in_what_it_says(door: Any, queue: str) -> None:
    opened = door.open_batch("nightly", queue, priority=5)
    usual = opened.add("usual", rows(0, 1))
    urgent = opened.add("urgent", rows(1, 1), priority=50)
    of = [door.get_job(part.ledger["job_id"][0].as_py()).priority for part in (usual, urgent)]
    assert of == [5, 50]
    with pytest.raises(LossyValueError):
        opened.add("lossy", [{"n": 2**60}])
    assert counts(opened.add("lossy", [{"n": 2**60}], on_lossy="string")) == (1, 0, 0)


def test_fresh_starts_over_and_turns_out_those_who_still_add_to_what_was(
    open_door: Callable[..., Any], server: ServerProcess, queue: str
) -> None:
    door = open_door(server)
    old = door.open_batch("nightly", queue)
    old.add("x", rows(0, 4))
    old.seal(1)
    new = door.open_batch("nightly", queue, on_rerun="fresh")
    assert (new.id, new.generation) == (old.id, 1)
    assert new.parts() == []
    assert counts(new.add("x", rows(0, 4))) == (4, 0, 0)
    with pytest.raises(ConflictError, match="begun again"):
        old.add("y", rows(4, 1))
    with pytest.raises(ConflictError, match="begun again"):
        old.seal()
    assert new.seal(1).stats().total == 4
    # What the older one had not started is cancelled.
    assert door.queue_stats(queue).pending == 4


def test_retry_failed_puts_dead_letters_back_when_it_is_opened(
    open_door: Callable[..., Any], server: ServerProcess, queue: str
) -> None:
    door = open_door(server)
    opened = door.open_batch("nightly", queue)
    opened.add("x", rows(0, 2))
    opened.seal(1)
    for job in door.dequeue(queue, "w", batch_size=2):
        door.fail(job, "boom", retry=False)
    again = door.open_batch("nightly", queue, on_rerun="retry_failed")
    assert again.retried == 2
    assert counts(again.add("x", rows(0, 2))) == (0, 2, 0)
    assert again.seal(1).stats().pending == 2


@pytest.mark.parametrize(("arguments", "size"), [((), 1_400), ((PLAIN,), 600)])
def test_a_server_killed_in_the_middle_of_a_part_and_the_same_part_again(
    open_door: Callable[..., Any],
    start_server: Callable[..., ServerProcess],
    queue: str,
    arguments: tuple[str, ...],
    size: int,
) -> None:
    server = start_server(*arguments)
    door = open_door(server, retry=RetryPolicy(max_attempts=1))
    opened = door.open_batch("nightly", queue)
    table = pa.table({"n": range(size), "text": ["x" * 3_000] * size})

    def kill(sent: int, total: int) -> None:
        if sent and server.running:
            assert sent < total
            server.kill()

    with pytest.raises(Exception, match=r"part 'x' of batch .* is not finished"):
        opened.add("x", table, progress=kill)
    saved = opened.to_dict()
    server.restart()
    later = open_door(server).open_batch(saved)
    part = later.add("x", table)
    assert part.created + part.duplicates == size
    assert part.duplicates > 0
    assert later.seal(1).stats().total == size


def test_wrong_arguments_are_refused_before_anything_is_sent(door: Any, queue: str) -> None:
    for arguments, options, text in (
        (("nightly",), {}, "queue's name"),
        (("nightly", "no such queue!"), {}, "queue"),
        ((None, queue), {}, "needs a name"),
        (("", queue), {}, "got ''"),
        (("nightly", queue), {"keys": "n"}, "no option 'keys'"),
        (("nightly", queue), {"on_rerun": "again"}, "on_rerun"),
        (({"name": "nightly"},), {}, "queue_name"),
    ):
        with pytest.raises(InvalidArgumentError, match=text):
            door.open_batch(*arguments, **options)
    opened = door.open_batch("nightly", queue, payload=lambda batch: batch)
    for part_id in ("", None, "x" * 256, True, b"x"):
        with pytest.raises(InvalidArgumentError, match="part_id must be"):
            opened.add(part_id, rows(0, 1))
    with pytest.raises(InvalidArgumentError, match="no option 'name'"):
        opened.add("x", rows(0, 1), name="other")
    with pytest.raises(InvalidArgumentError, match="payload= is a function"):
        opened.to_dict()
    for expected in ("x", -1, 1.5, True):
        with pytest.raises(InvalidArgumentError, match="expected_parts"):
            opened.seal(expected)
    other = door.open_batch("other", queue).add("x", rows(0, 1))
    with pytest.raises(InvalidArgumentError, match="and this is batch"):
        opened.seal(added=[other.to_dict()])
    with pytest.raises(InvalidArgumentError, match="pass what add"):
        opened.seal(added=[{"part_id": "x"}])


def test_no_seal_counts_for_an_upload_of_other_rows_that_goes_on(
    open_door: Callable[..., Any],
    server: ServerProcess,
    queue: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    others: list[Any] = []
    client = connect(server.address, api_key=server.api_key)

    def meanwhile(sent: int, total: int | None) -> None:
        if not others:
            others.append(client.enqueue_batch(rows(0, 2), queue, key="n", name="day"))
            (stall, *_) = others[0].stats().stalls
            assert (stall.cause, others[0].stats().sealed) == ("not_sealed", False)
            assert "an upload with other rows is not finished" in stall.message
            assert stall.message in caplog.text

    door = open_door(server)
    with client:
        batch = door.enqueue_batch(rows(0, 9), queue, key="n", name="day", progress=meanwhile)
    assert batch.id == others[0].id
    assert (batch.stats().sealed, batch.stats().total) == (True, 9)
