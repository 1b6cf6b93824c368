"""What became of each row, at any size: as a stream, in a file, and in an error."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from spooled_pipelines.batch.outcome.ledger import SCHEMA, merge_sorted
from spooled_pipelines.errors import InvalidArgumentError, RowsRejectedError


def mixed(rows: int, every: int = 3) -> list[dict[str, Any]]:
    """Every third row has no key."""
    return [{"id": None if n % every == 0 else n, "n": n} for n in range(rows)]


def lines(rows: list[int]) -> Any:
    columns = [pa.array(rows, pa.int64()), *[pa.nulls(len(rows), pa.string())] * 4]
    return pa.record_batch(columns, schema=SCHEMA)


def cut(rows: list[int], sizes: list[int]) -> list[Any]:
    made = []
    for size in sizes:
        made.append(rows[:size])
        rows = rows[size:]
    return [lines(part) for part in [*made, rows] if part]


sizes = st.lists(st.integers(1, 5), max_size=6)


@given(st.lists(st.booleans(), max_size=30), sizes, sizes)
def test_rows_that_were_sent_and_others_are_one_stream_in_order(
    sent: list[bool], some: list[int], other: list[int]
) -> None:
    yes = [row for row, is_sent in enumerate(sent) if is_sent]
    no = [row for row, is_sent in enumerate(sent) if not is_sent]
    merged = merge_sorted(iter(cut(yes, some)), iter(cut(no, other)))
    assert [row for batch in merged for row in batch.column("row").to_pylist()] == list(
        range(len(sent))
    )


def test_the_ledger_is_a_stream_in_the_order_of_the_rows(door: Any, queue: str) -> None:
    batch = door.enqueue_batch(mixed(60), queue, key="id", on_rejected="skip")
    reader = batch.ledger_reader()
    assert isinstance(reader, pa.RecordBatchReader)
    # Two at once do not disturb each other.
    other = batch.ledger_reader()
    assert next(other)["row"][0].as_py() == 0
    table = reader.read_all()
    assert table == batch.ledger
    assert table["row"].to_pylist() == list(range(60))
    assert Counter(table["outcome"].to_pylist()) == {"created": 40, "rejected": 20}


@pytest.mark.parametrize("name", ["ledger.parquet", "ledger.arrow"])
def test_a_ledger_is_kept_where_it_is_wanted_and_found_by_others(
    door: Any, queue: str, tmp_path: Path, name: str, work: Callable[..., int]
) -> None:
    path = tmp_path / name
    batch = door.enqueue_batch(mixed(60), queue, key="id", on_rejected="skip", ledger=path)
    saved = json.loads(json.dumps(batch.to_dict()))
    found = door.batch(saved)
    assert found.ledger == batch.ledger
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert path.stat().st_mode & 0o444
    # Who has the ledger knows the jobs, also of a server that keeps no batches.
    work(queue, lambda payload: {"n": payload["n"]})
    results = found.results()
    assert results["row"].to_pylist() == list(range(60))
    assert results["n"].to_pylist() == [None if n % 3 == 0 else n for n in range(60)]
    assert found.wait(timeout=30).completed == 40


def test_a_ledger_goes_to_a_uri(door: Any, queue: str) -> None:
    import fsspec

    uri = f"memory://{queue}/ledger.parquet"
    batch = door.enqueue_batch([{"n": 1}], queue, ledger=uri)
    with fsspec.open(uri) as file:
        assert parquet.read_table(file) == batch.ledger
    assert door.batch(batch.to_dict()).ledger == batch.ledger


def test_the_error_says_where_all_rejected_rows_are(door: Any, queue: str, tmp_path: Path) -> None:
    path = tmp_path / "rejected.parquet"
    with pytest.raises(RowsRejectedError, match=r"all of them are listed in '.*parquet'") as why:
        door.enqueue_batch(mixed(3_000), queue, key="id", ledger=path)
    kept = parquet.read_table(path)
    assert kept["row"].to_pylist() == list(range(0, 3_000, 3))
    assert set(kept["outcome"].to_pylist()) == {"rejected"}
    assert kept.num_rows == why.value.rejected == sum(why.value.reasons.values())
    assert len(why.value.examples) == 10
    assert door.queue_stats(queue).total == 0


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("ledger.csv", "parquet or arrow"),
        ("ledger", "no extension"),
        ("nowhere/ledger.parquet", "no such folder"),
        ("gone://x/ledger.parquet", "gone"),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_anything_is_sent(
    door: Any, queue: str, where: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgumentError, match=text):
        door.enqueue_batch([{"n": 1}], queue, ledger=where)
    assert door.queue_stats(queue).total == 0


def test_a_file_that_is_no_ledger_is_said_to_be_none(door: Any, queue: str, tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    parquet.write_table(pa.table({"a": [1]}), path)
    batch = door.enqueue_batch([{"n": 1}], queue)
    with pytest.raises(InvalidArgumentError, match="is not a ledger"):
        assert door.batch({**batch.to_dict(), "ledger": str(path)}).ledger


def test_a_part_has_its_ledger_too(door: Any, queue: str, tmp_path: Path) -> None:
    opened = door.open_batch("nightly", queue)
    part = opened.add("x", [{"n": 1}, {"n": 2}], ledger=tmp_path / "x.parquet")
    assert parquet.read_table(tmp_path / "x.parquet") == part.ledger
