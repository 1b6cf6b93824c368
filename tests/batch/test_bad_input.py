"""Bad input is one clear error, and the server never hears of it."""

from __future__ import annotations

import gc
import pickle
import resource
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spooled_pipelines import connect
from spooled_pipelines.batch.spill.buffer import SpillBuffer
from spooled_pipelines.errors import (
    AuthenticationError,
    InvalidArgumentError,
    LossyValueError,
    RowsRejectedError,
    SourceError,
    SpooledError,
    UnavailableError,
)
from spooled_pipelines.rpc.retry import RetryPolicy
from tests.support.server_process import ServerProcess

GOOD = [{"id": i, "n": i} for i in range(30_000)]


def _late(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [*GOOD, row]


def _raising() -> Iterator[dict[str, Any]]:
    yield from GOOD
    raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("data", "arguments", "kind", "said"),
    [
        ([], {}, InvalidArgumentError, "no rows"),
        (pd.DataFrame({"a": []}), {}, InvalidArgumentError, "no rows"),
        (pa.table({"a": pa.array([], pa.int64())}), {}, InvalidArgumentError, "no rows"),
        (GOOD, {"key": "idd"}, InvalidArgumentError, "Did you mean 'id'"),
        (GOOD, {"priority": 1000}, InvalidArgumentError, "1000"),
        (GOOD, {"on_rejected": "ignore"}, InvalidArgumentError, "'raise' or 'skip'"),
        (GOOD, {"on_lossy": "nil"}, InvalidArgumentError, "'raise', 'string', 'null' or 'round'"),
        (GOOD, {"name": ""}, InvalidArgumentError, "name"),
        (GOOD, {"name": "x" * 256}, InvalidArgumentError, "name"),
        (_late({"id": 2**60, "n": 1}), {}, LossyValueError, "row 30000"),
        (_late({"id": None, "n": 1}), {"key": "id"}, RowsRejectedError, "1 of 30001 rows"),
        (_late({"id": 1, "n": {"x"}}), {}, InvalidArgumentError, "column 'n'"),
        ([{"id": None}], {"key": "id", "on_rejected": "skip"}, RowsRejectedError, "all 1 rows"),
        ("no-such-file.csv", {}, InvalidArgumentError, "there is no file"),
        (42, {}, InvalidArgumentError, "DataFrame"),
    ],
)
def test_nothing_is_sent(
    door: Any,
    queue: str,
    data: Any,
    arguments: dict[str, Any],
    kind: type[SpooledError],
    said: str,
) -> None:
    with pytest.raises(kind) as caught:
        door.enqueue_batch(data, queue, **arguments)
    assert said in str(caught.value)
    assert door.queue_stats(queue).total == 0


def test_an_error_of_a_generators_own_says_what_was_read_and_nothing_sent(
    door: Any, queue: str
) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield from GOOD
        raise RuntimeError("the token has expired")

    with pytest.raises(RuntimeError, match="the token has expired") as caught:
        door.enqueue_batch(rows(), queue, name="nightly")
    if sys.version_info >= (3, 11):
        (note,) = caught.value.__notes__
        assert "cannot be read after row 29999" in note
        assert note.endswith("Nothing was sent.")
    assert door.queue_stats(queue).total == 0
    # With what was expired made good, the same call is the whole batch.
    assert door.enqueue_batch(GOOD[:50], queue, name="nightly").created == 50


def test_a_folder_that_breaks_in_its_middle_leaves_nothing_and_is_enqueued_once_it_is_whole(
    door: Any, queue: str, tmp_path: Path
) -> None:
    for number in range(3):
        rows = pa.table({"n": range(10 * number, 10 * number + 10)})
        pq.write_table(rows, tmp_path / f"{number}.parquet")
    whole = (tmp_path / "1.parquet").read_bytes()
    (tmp_path / "1.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidArgumentError, match=r"1\.parquet' cannot be read.*Nothing was sent"):
        door.enqueue_batch(tmp_path, queue)
    assert door.queue_stats(queue).total == 0
    (tmp_path / "1.parquet").write_bytes(whole)
    assert door.enqueue_batch(tmp_path, queue).created == 30


def test_a_query_that_fails_on_a_later_fetch_leaves_nothing_and_can_be_tried_again(
    door: Any, queue: str
) -> None:
    wrong = iter([True, False])

    def picky(n: int) -> int:
        if n == 25_000 and next(wrong):
            raise ValueError
        return n

    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        connection.create_function("picky", 1, picky)
        numbers = "WITH RECURSIVE r(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM r LIMIT 30000)"
        options = {"sql": f"{numbers} SELECT picky(n) AS n FROM r", "connection": connection}
        with pytest.raises(SourceError, match="the query cannot be read after row 19999"):
            door.enqueue_batch(None, queue, **options)
        assert door.queue_stats(queue).total == 0
        plan = door.plan_batch(None, queue, **options)
        assert plan.rows == 30_000


def test_of_very_many_bad_rows_the_error_shows_some_and_lists_all(door: Any, queue: str) -> None:
    bad = [None if i % 10 == 3 else i for i in range(200_000)]
    ranks = [500 if i % 20 == 7 else 0 for i in range(200_000)]
    table = pa.table({"id": bad, "rank": ranks})
    with pytest.raises(RowsRejectedError, match="30000 of 200000 rows cannot be jobs") as caught:
        door.enqueue_batch(table, queue, key="id", priority="rank")
    error = caught.value
    assert len(str(error)) < 500
    assert sorted(error.reasons.values()) == [10_000, 20_000]
    assert [example.row for example in error.examples] == [3, 7, 13, 23, 27, 33, 43, 47, 53, 63]
    listed = error.table()
    assert listed.column_names == ["row", "reason"]
    expected = [i for i in range(200_000) if i % 10 == 3 or i % 20 == 7]
    assert sorted(listed["row"].to_pylist()) == expected
    assert door.queue_stats(queue).total == 0
    # In another process there is no list, and the rest is the same.
    copied = pickle.loads(pickle.dumps(error))
    assert (copied.table(), copied.reasons, str(copied)) == (None, error.reasons, str(error))


def test_a_source_that_breaks_at_its_end_leaves_nothing(door: Any, queue: str) -> None:
    with pytest.raises(SourceError, match="the disk is gone"):
        door.enqueue_batch(_raising(), queue)
    assert door.queue_stats(queue).total == 0


@pytest.mark.parametrize("name", ["", "a b", "-q", "x" * 101, "ä", None])
def test_a_bad_queue_name_is_refused_before_the_data_is_read(door: Any, name: Any) -> None:
    def untouched() -> Iterator[dict[str, Any]]:
        yield from (pytest.fail("the data was read") for _ in range(1))

    with pytest.raises(InvalidArgumentError, match="queue_name"):
        door.enqueue_batch(untouched(), name)


def test_a_wrong_key_is_told_once(any_server: ServerProcess, queue: str) -> None:
    with (
        connect(any_server.address, api_key="sp_test_wrong") as client,
        pytest.raises(AuthenticationError) as caught,
    ):
        client.enqueue_batch(GOOD[:10], queue)
    assert "acknowledged" not in str(caught.value)
    assert "sp_test_wrong" not in str(caught.value)


def test_no_server_is_told_with_what_to_do(queue: str, tmp_path: Path) -> None:
    retry = RetryPolicy(max_attempts=2, initial_seconds=0.01)
    with (
        connect(f"unix:{tmp_path}/nobody", api_key="k", retry=retry) as client,
        pytest.raises(UnavailableError, match="spooled-pipelines serve"),
    ):
        client.enqueue_batch(GOOD[:10], queue)


def test_no_payload_and_no_key_is_in_an_error(door: Any, queue: str) -> None:
    secret = "4111-1111"
    rows = [{"card": secret, "id": 1}, {"card": secret, "id": None}]
    with pytest.raises(RowsRejectedError) as caught:
        door.enqueue_batch(rows, queue, key="id")
    shown = f"{caught.value} {caught.value.details} {caught.value.examples}"
    assert secret not in shown


def test_rows_that_only_the_server_refuses_are_named_and_the_batch_stays_open(
    open_door: Callable[..., Any], server: ServerProcess, queue: str, monkeypatch: Any
) -> None:
    # A server may be stricter than what this client knows.
    from spooled_pipelines.batch.encoding import rows as encoding

    monkeypatch.setattr(encoding, "SURELY_SMALL", 1 << 30)
    rows = [{"text": "small"}, {"text": "x" * (1 << 20)}, {"text": "too"}]
    door = open_door(server)
    with pytest.raises(RowsRejectedError, match="the server refused 1 of 3 rows") as caught:
        door.enqueue_batch(rows, queue, name="strict")
    assert [example.row for example in caught.value.examples] == [1]
    assert "is not sealed" in str(caught.value)
    assert door.queue_stats(queue).total == 2

    batch = door.enqueue_batch(rows, queue, name="strict", on_rejected="skip")
    assert (batch.created, batch.duplicates, batch.rejected) == (0, 2, 1)
    assert batch.ledger["outcome"].to_pylist() == ["duplicate", "rejected", "duplicate"]
    assert (batch.stats().sealed, batch.stats().total) == (True, 2)


def test_a_full_folder_for_what_is_put_aside_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    table = pa.table({"a": ["x" * 100_000]})
    dropped = SpillBuffer(table.schema, memory_bytes=1)
    with closing(SpillBuffer(table.schema, memory_bytes=1)) as buffer:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        # As on a full disk, no file of this process grows any further.
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        try:
            with pytest.raises(OSError, match=rf"rows cannot be put aside in {tmp_path} \("):
                buffer.write(table.to_batches()[0])
            with pytest.raises(OSError, match="rows cannot be put aside"):
                dropped.write(table.to_batches()[0])
            # One that nobody closes says nothing more at its end.
            del dropped
            gc.collect()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
