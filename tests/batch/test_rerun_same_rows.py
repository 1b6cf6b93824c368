"""The same rows are the same jobs: what a second call does, row by row."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from spooled_pipelines.errors import InvalidArgumentError


def counts(batch: Any) -> tuple[int, int, int]:
    return batch.created, batch.duplicates, batch.rejected


def jobs_on(door: Any, queue: str) -> int:
    return int(door.queue_stats(queue).total)


def test_the_same_call_again_creates_nothing(door: Any, queue: str, flights: pa.Table) -> None:
    first = door.enqueue_batch(flights, queue)
    again = door.enqueue_batch(flights, queue)
    assert counts(first) == (60, 0, 0)
    assert counts(again) == (0, 60, 0)
    assert again.id == first.id
    assert again.ledger["job_id"] == first.ledger["job_id"]
    assert jobs_on(door, queue) == 60


def test_shuffled_rows_are_the_same_jobs(door: Any, queue: str, flights: pa.Table) -> None:
    first = door.enqueue_batch(flights, queue)
    order = random.Random(3).sample(range(60), 60)
    again = door.enqueue_batch(flights.take(order), queue)
    assert (counts(again), again.id) == ((0, 60, 0), first.id)
    assert again.ledger["job_id"] == first.ledger["job_id"].take(order)


def test_added_and_changed_rows_are_new_jobs_and_the_others_are_not(
    door: Any, queue: str, flights: pa.Table
) -> None:
    first = door.enqueue_batch(flights.slice(0, 50), queue)
    more = door.enqueue_batch(flights, queue)
    assert counts(more) == (10, 50, 0)
    assert more.id != first.id
    # Both batches cover all of their rows, whichever of them made the job.
    assert more.stats().total == 60
    assert first.stats().total in (50, 60)  # a plain server's queue holds both

    rows = flights.to_pylist()
    rows[7]["delay"] = 99.5
    changed = door.enqueue_batch(pa.Table.from_pylist(rows, flights.schema), queue)
    assert counts(changed) == (1, 59, 0)
    assert changed.ledger["outcome"].to_pylist().index("created") == 7
    assert jobs_on(door, queue) == 61


def test_with_a_key_a_changed_row_is_still_its_job(
    door: Any, queue: str, flights: pa.Table
) -> None:
    door.enqueue_batch(flights, queue, key="flight")
    rows = flights.to_pylist()
    rows[8]["delay"] = 99.5
    again = door.enqueue_batch(rows, queue, key="flight")
    assert counts(again) == (0, 60, 0)
    # It keeps the payload that it was made with.
    assert door.get_job(again.ledger["job_id"][8].as_py()).payload["delay"] == 2


def test_rows_that_are_equal_are_jobs_of_their_own(door: Any, queue: str) -> None:
    rows = [{"a": 1}, {"a": 2}, {"a": 1}, {"a": 1}]
    first = door.enqueue_batch(rows, queue)
    assert counts(first) == (4, 0, 0)
    assert len(set(first.ledger["job_id"].to_pylist())) == 4
    assert counts(door.enqueue_batch(rows, queue)) == (0, 4, 0)
    assert counts(door.enqueue_batch([*rows, {"a": 1}], queue)) == (1, 4, 0)


def test_equal_keys_in_the_data_are_one_job(door: Any, queue: str) -> None:
    rows = [{"id": "x", "n": 1}, {"id": "y", "n": 2}, {"id": "x", "n": 3}]
    batch = door.enqueue_batch(rows, queue, key="id")
    assert counts(batch) == (2, 1, 0)
    ids = batch.ledger["job_id"].to_pylist()
    assert ids[0] == ids[2] != ids[1]
    assert Counter(batch.ledger["outcome"].to_pylist()) == {"created": 2, "duplicate": 1}
    assert jobs_on(door, queue) == 2
    assert batch.stats().total == 2


def test_a_name_gives_the_rows_lives_of_their_own(door: Any, queue: str, flights: pa.Table) -> None:
    unnamed = door.enqueue_batch(flights, queue)
    monday = door.enqueue_batch(flights, queue, name="monday")
    tuesday = door.enqueue_batch(flights, queue, name="tuesday")
    assert [counts(b) for b in (unnamed, monday, tuesday)] == [(60, 0, 0)] * 3
    assert counts(door.enqueue_batch(flights, queue, name="monday")) == (0, 60, 0)
    assert len({unnamed.id, monday.id, tuesday.id}) == 3
    # A named batch grows: it is itself whatever rows are added.
    grown = door.enqueue_batch(make_more(flights), queue, name="monday")
    assert (grown.id, counts(grown)) == (monday.id, (1, 60, 0))
    assert jobs_on(door, queue) == 181


def make_more(flights: pa.Table) -> pa.Table:
    row = {**flights.slice(0, 1).to_pylist()[0], "flight": 1_000}
    return pa.concat_tables([flights, pa.Table.from_pylist([row], flights.schema)])


def test_the_ledger_is_what_the_server_has(door: Any, queue: str, flights: pa.Table) -> None:
    batch = door.enqueue_batch(
        flights, queue, priority="distance", tags={"team": "ops"}, max_retries=5, payload=["flight"]
    )
    ledger = batch.ledger.to_pylist()
    assert [line["row"] for line in ledger] == list(range(60))
    for line in ledger[::7]:
        job = door.get_job(line["job_id"])
        assert job.payload == {"flight": line["row"]}
        assert job.idempotency_key == line["key"]
        assert (job.priority, job.max_retries) == (line["row"] % 25, 5)
    assert (batch.rows, batch.queue_name) == (60, queue)


def test_rejected_rows_are_in_the_ledger_and_the_others_are_jobs(door: Any, queue: str) -> None:
    rows = [{"id": None, "rank": 1}, {"id": 1, "rank": 500}, {"id": 2, "rank": 3}]
    batch = door.enqueue_batch(rows, queue, key="id", priority="rank", on_rejected="skip")
    assert counts(batch) == (1, 0, 2)
    assert batch.rows == 3
    assert [(line["row"], line["outcome"]) for line in batch.ledger.to_pylist()] == [
        (0, "rejected"),
        (1, "rejected"),
        (2, "created"),
    ]
    reasons = batch.ledger["reason"].to_pylist()
    assert reasons[0] == "key column 'id' is null"
    assert reasons[1] is not None
    assert "rank" in reasons[1]
    assert reasons[2] is None
    assert jobs_on(door, queue) == 1


def test_a_batch_goes_through_a_small_dict_to_another_process(
    door: Any, queue: str, flights: pa.Table
) -> None:
    import json

    batch = door.enqueue_batch(flights, queue, name="nightly")
    text = json.dumps(batch.to_dict())
    assert len(text) < 1024
    found = door.batch(json.loads(text))
    assert (found.id, found.queue_name, found.name, found.rows) == (batch.id, queue, "nightly", 60)
    assert counts(found) == (60, 0, 0)
    assert found.ledger is None
    assert found.stats().total == 60
    with pytest.raises(InvalidArgumentError, match="batch_id"):
        door.batch({"id": batch.id})


def test_progress_is_told_until_all_rows_are_acknowledged(
    door: Any, queue: str, flights: pa.Table
) -> None:
    told: list[tuple[int, int]] = []
    door.enqueue_batch(flights, queue, progress=lambda sent, total: told.append((sent, total)))
    assert told[-1] == (60, 60)
    assert told == sorted(told)
    with pytest.raises(InvalidArgumentError, match="progress"):
        door.enqueue_batch(flights, queue, progress="yes")


def test_a_bar_is_drawn_on_request(
    door: Any, queue: str, flights: pa.Table, capsys: pytest.CaptureFixture[str]
) -> None:
    door.enqueue_batch(flights, queue, progress=True)
    shown = capsys.readouterr().err
    assert queue in shown
    assert "60" in shown


def test_a_bar_without_tqdm_says_what_to_install(
    door: Any, queue: str, flights: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match="pip install tqdm"):
        door.enqueue_batch(flights, queue, progress=True)


def test_every_source_of_the_client_is_accepted(
    door: Any, queue: str, flights: pa.Table, tmp_path: Any, work: Callable[..., int]
) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "flights.parquet"
    pq.write_table(flights, path)
    assert counts(door.enqueue_batch(path, queue)) == (60, 0, 0)
    for same in (str(path), flights.to_pandas(), flights.to_reader(), flights.to_pylist()):
        assert counts(door.enqueue_batch(same, queue)) == (0, 60, 0)
    seen: list[dict[str, Any]] = []

    def note(payload: dict[str, Any]) -> dict[str, Any]:
        seen.append(payload)
        return {}

    assert work(queue, note) == 60
    assert sorted(row["flight"] for row in seen) == list(range(60))
