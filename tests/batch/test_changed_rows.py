"""The same key with another payload: said, counted, and with `on_changed` refused or replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spooled_pipelines import SpooledClient, connect
from spooled_pipelines.batch.options.row_options import OnChanged
from spooled_pipelines.errors import InvalidArgumentError, RowsRejectedError, UnavailableError
from spooled_pipelines.rpc.retry import RetryPolicy
from tests.support.doc_tables import table_under
from tests.support.server_process import ServerProcess

ROWS = [{"id": n, "deep": {"a": n, "b": [n]}} for n in range(4)]
OTHERS = [
    ROWS[0],
    {"id": 1, "deep": None},
    {"id": 2, "deep": {"b": [2], "a": 2}},
    {"id": 3, "deep": 3},
]
KEY: dict[str, Any] = {"key": "id", "name": "monday"}


@pytest.fixture(params=["extension"])
def any_server(server: ServerProcess) -> ServerProcess:
    """Only with the batch extension, unless a test says otherwise."""
    return server


def counts(batch: Any) -> tuple[int | None, ...]:
    return batch.created, batch.duplicates, batch.changed, batch.replaced


def payloads(door: Any, batch: Any) -> list[Any]:
    return [door.get_job(job_id).payload for job_id in batch.ledger["job_id"].to_pylist()]


def test_changed_rows_are_said_and_their_jobs_keep_what_they_have(
    door: Any, queue: str, tmp_path: Path
) -> None:
    assert counts(door.enqueue_batch(ROWS, queue, **KEY)) == (4, 0, 0, 0)
    path = tmp_path / "ledger.parquet"
    plan = door.plan_batch(OTHERS, queue, **KEY)
    assert (plan.created, plan.duplicates, plan.changed) == (0, 4, 2)
    batch = door.enqueue_batch(OTHERS, queue, ledger=path, **KEY)
    # The third has its fields in another order, which is no other payload.
    assert counts(batch) == (0, 4, 2, 0)
    assert batch.ledger["reason"].to_pylist() == [None, "changed", None, "changed"]
    assert pq.read_table(path)["reason"] == batch.ledger["reason"]
    assert set(batch.ledger["outcome"].to_pylist()) == {"duplicate"}
    assert "2 changed" in repr(batch)
    stats = batch.stats()
    assert (stats.changed, stats.replaced) == (2, 0)
    assert door.batch(batch.to_dict()).changed == 2
    assert payloads(door, batch) == ROWS


def test_a_job_that_has_not_started_gets_the_new_payload(door: Any, queue: str) -> None:
    door.enqueue_batch([{**row, "rank": row["id"]} for row in ROWS], queue, priority="rank", **KEY)
    (running,) = door.dequeue(queue, "worker-1")
    options = {"on_changed": "replace", **KEY}
    batch = door.enqueue_batch(OTHERS, queue, **options)
    assert running.payload["id"] == 3
    assert counts(batch) == (0, 4, 2, 1)
    assert batch.ledger["reason"].to_pylist() == [None, "replaced", None, "changed"]
    assert payloads(door, batch) == [*OTHERS[:3], ROWS[3]]
    assert (batch.stats().changed, batch.stats().replaced) == (2, 1)
    again = door.enqueue_batch(OTHERS, queue, **options)
    assert counts(again) == (0, 4, 1, 0)


def test_raise_sends_nothing_and_names_the_rows(door: Any, queue: str, tmp_path: Path) -> None:
    door.enqueue_batch(ROWS, queue, **KEY)
    path = tmp_path / "changed.parquet"
    rows = [*OTHERS, {"id": 9}]
    with pytest.raises(RowsRejectedError, match="2 of 5 rows have changed") as caught:
        door.enqueue_batch(rows, queue, on_changed="raise", ledger=path, **KEY)
    error = caught.value
    assert "Nothing was sent" in str(error)
    assert (error.rejected, error.reason) == (2, "changed")
    assert [example.row for example in error.examples] == [1, 3]
    assert pq.read_table(path)["row"].to_pylist() == [1, 3]
    assert door.queue_stats(queue).total == 4
    same = door.enqueue_batch([*ROWS, {"id": 9}], queue, on_changed="raise", **KEY)
    assert counts(same) == (1, 4, 0, 0)


def test_what_shows_only_while_rows_are_sent_raises_before_the_seal(door: Any, queue: str) -> None:
    """Two rows of one table that have a key: no server can be asked about them beforehand."""
    rows = [*ROWS, {"id": 0, "deep": "other"}]
    with pytest.raises(RowsRejectedError, match="1 of 5 rows have changed") as caught:
        door.enqueue_batch(rows, queue, on_changed="raise", **KEY)
    assert "The other 4 are jobs" in str(caught.value)
    assert "is not sealed" in str(caught.value)
    batch = door.enqueue_batch(rows, queue, **KEY)
    assert counts(batch) == (0, 5, 1, 0)
    assert batch.stats().sealed


def test_what_failed_goes_back_with_the_corrected_payload(
    door: Any, queue: str, work: Callable[..., int]
) -> None:
    def refuse(payload: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("wrong")

    first = door.enqueue_batch(ROWS, queue, **KEY)
    work(queue, refuse)
    options = {"on_changed": "replace", **KEY}
    # Only with retry_failed: what stays dead keeps what it was done with.
    assert counts(door.enqueue_batch(OTHERS, queue, **options)) == (0, 4, 2, 0)
    batch = door.enqueue_batch(OTHERS, queue, on_rerun="retry_failed", **options)
    assert (*counts(batch), batch.retried) == (0, 4, 2, 2, 4)
    assert work(queue, lambda payload: payload) == 4
    assert payloads(door, batch) == OTHERS
    assert first.stats().completed == 4


CHOICES = table_under("batches.md", "Changed rows")


def test_the_page_says_it_of_every_choice() -> None:
    assert [row[0].strip('`"') for row in CHOICES] == list(get_args(OnChanged))


@pytest.mark.parametrize(("choice", "row", "job"), CHOICES)
def test_each_choice_does_what_the_page_says(
    door: Any, queue: str, choice: str, row: str, job: str
) -> None:
    door.enqueue_batch(ROWS, queue, **KEY)
    on_changed = choice.strip('`"')
    if "RowsRejectedError" in row:
        with pytest.raises(RowsRejectedError, match="2 of 4 rows"):
            door.enqueue_batch(OTHERS, queue, on_changed=on_changed, **KEY)
    else:
        assert row == "is counted, and named in the ledger"
        assert door.enqueue_batch(OTHERS, queue, on_changed=on_changed, **KEY).changed == 2
    jobs = door.dequeue(queue, "worker-1", batch_size=9)
    expected = OTHERS if "gets the row's payload" in job else ROWS
    assert [job.payload for job in jobs] == expected


def test_a_fresh_run_has_nothing_to_compare(door: Any, queue: str) -> None:
    door.enqueue_batch(ROWS, queue, **KEY)
    batch = door.enqueue_batch(OTHERS, queue, on_rerun="fresh", on_changed="raise", **KEY)
    assert counts(batch) == (4, 0, 0, 0)
    assert batch.stats().changed == 0


def test_parts_count_and_replace_too(door: Any, queue: str) -> None:
    opened = door.open_batch(queue, queue, key="id")
    opened.add("x", ROWS[:2])
    with pytest.raises(RowsRejectedError, match="1 of 2 rows have changed"):
        opened.add("x", OTHERS[:2], on_changed="raise")
    part = opened.add("x", OTHERS[:2], on_changed="replace")
    assert (part.duplicates, part.changed, part.replaced) == (2, 1, 1)
    opened.add("y", ROWS[2:])
    batch = opened.seal(2, added=[part.to_dict()])
    assert (batch.created, batch.changed, batch.replaced) == (2, 1, 1)


def test_rows_of_one_key_are_done_as_the_last_of_them_says(door: Any, queue: str) -> None:
    rows = [{"id": 1, "n": 1}, {"id": 1, "n": 2}, {"id": 1, "n": 1}]
    for _ in range(2):
        batch = door.enqueue_batch(rows[:2], queue, on_changed="replace", **KEY)
        assert payloads(door, batch)[0] == rows[1]
    assert counts(door.enqueue_batch(rows, queue, on_changed="replace", **KEY)) == (0, 3, 3, 3)
    assert door.dequeue(queue, "worker-1")[0].payload == rows[2]


def test_a_plain_server_does_not_say_what_has_changed(
    open_door: Callable[..., Any], plain_server: ServerProcess, queue: str
) -> None:
    door = open_door(plain_server)
    door.enqueue_batch(ROWS, queue, **KEY)
    batch = door.enqueue_batch(OTHERS, queue, **KEY)
    assert counts(batch) == (0, 4, None, None)
    assert batch.ledger["reason"].null_count == 4
    assert door.plan_batch(OTHERS, queue, **KEY).changed is None
    for on_changed in ("raise", "replace"):
        expected = f'on_changed="{on_changed}" needs a server with the batch extension'
        with pytest.raises(InvalidArgumentError, match=expected):
            door.enqueue_batch(OTHERS, queue, on_changed=on_changed, **KEY)
    with pytest.raises(InvalidArgumentError, match="on_changed must be 'keep', 'raise' or"):
        door.enqueue_batch(OTHERS, queue, on_changed="update", **KEY)


def table(version: int, rows: int) -> pa.Table:
    return pa.table({"id": range(rows), "version": [version] * rows, "text": ["x" * 80] * rows})


@pytest.fixture
def own_server(
    request: pytest.FixtureRequest, start_server: Callable[..., ServerProcess]
) -> ServerProcess:
    """To be killed."""
    if request.param == "sqlite":
        return start_server()
    return start_server("--store", request.getfixturevalue("cluster").database())


@pytest.mark.parametrize(
    ("own_server", "comes_back"),
    [
        ("sqlite", True),
        ("postgresql", False),
        pytest.param("sqlite", False, marks=pytest.mark.long),
        pytest.param("postgresql", True, marks=pytest.mark.long),
    ],
    indirect=["own_server"],
)
def test_kill_9_while_payloads_are_replaced_and_none_is_lost_or_counted_twice(
    own_server: ServerProcess, comes_back: bool
) -> None:
    """In the same call, whose answers are repeated; and in a second one."""
    rows = 20_000
    killed: list[int] = []
    retry = None if comes_back else RetryPolicy(max_attempts=1)

    def kill(sent: int, total: int) -> None:
        if sent >= rows // 5 and not killed:
            killed.append(sent)
            own_server.kill()
            if comes_back:
                own_server.restart()

    def client(**settings: Any) -> SpooledClient:
        return connect(own_server.address, api_key=own_server.api_key, **settings)

    options: Any = {**KEY, "on_changed": "replace"}
    with client() as door:
        door.enqueue_batch(table(1, rows), "q", **KEY)
    with client(retry=retry) as door:
        if comes_back:
            batch = door.enqueue_batch(table(2, rows), "q", progress=kill, **options)
            assert counts(batch) == (0, rows, rows, rows)
            assert set(batch.ledger["reason"].to_pylist()) == {"replaced"}
        else:
            with pytest.raises(UnavailableError):
                door.enqueue_batch(table(2, rows), "q", progress=kill, **options)
            own_server.restart()
    with client() as door:
        batch = door.enqueue_batch(table(2, rows), "q", **options)
        assert killed
        # What was replaced before the crash has not changed.
        assert batch.changed == batch.replaced <= rows - (rows if comes_back else killed[0])
        stats = batch.stats()
        assert (stats.total, stats.changed, stats.replaced) == (rows, rows, rows)
        assert counts(door.enqueue_batch(table(2, rows), "q", **options)) == (0, rows, 0, 0)
        jobs = door.dequeue("q", "worker-1", batch_size=100)
        assert {job.payload["version"] for job in jobs} == {2}
