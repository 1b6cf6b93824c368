"""A row's key is what the row says, and nothing else."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.batch.staging import duplicates, idempotency
from spooled_pipelines.batch.staging.prepare import prepare
from tests.support.arrow_strategies import tables


def identities(data: Any, queue: str = "q", **options: Any) -> tuple[str, list[str]]:
    """The batch's id and each row's key, in the data's order."""
    made = prepare(data, queue, RowOptions(**options))
    try:
        found = [key.decode() for chunk in made.chunks() for key in chunk.keys.to_pylist()]
        return made.batch_id, found
    finally:
        made.close()


@settings(max_examples=40)
@given(tables(), st.randoms(use_true_random=False))
def test_order_of_rows_and_columns_and_cuts_do_not_matter(
    table: pa.Table, order: random.Random
) -> None:
    batch_id, found = identities(table)
    rows = order.sample(range(table.num_rows), table.num_rows)
    columns = order.sample(table.column_names, table.num_columns)
    other = pa.concat_tables([table.slice(row, 1) for row in rows]).select(columns)
    other_id, other_found = identities(other)
    assert other_id == batch_id
    assert Counter(other_found) == Counter(found)
    assert len(set(found)) == table.num_rows


def test_a_table_of_many_batches_is_one_table() -> None:
    rows = pa.table({"n": [i % 9_000 for i in range(25_000)]})
    batch_id, found = identities(rows)
    assert len(set(found)) == 25_000
    order = random.Random(5).sample(range(25_000), 25_000)
    other_id, other_found = identities(rows.take(order))
    assert (other_id, set(other_found)) == (batch_id, set(found))
    first_changed = rows.to_pylist()
    first_changed[0]["n"] = -1
    changed_id, changed_found = identities(first_changed)
    assert changed_id != batch_id
    assert len(set(changed_found) - set(found)) == 1


def test_whatever_holds_the_table_the_jobs_are_the_same(flights: pa.Table, tmp_path: Path) -> None:
    pa.parquet.write_table(flights, tmp_path / "flights.parquet", row_group_size=7)
    folder = tmp_path / "folder"
    folder.mkdir()
    pa.parquet.write_table(flights.slice(0, 40), folder / "1.parquet")
    pa.parquet.write_table(flights.slice(40), folder / "2.parquet")
    with pa.ipc.new_file(tmp_path / "flights.arrow", flights.schema) as file:
        file.write_table(flights, max_chunksize=11)
    expected = identities(flights)
    frame = flights.to_pandas()
    frame.index = [f"row {i}" for i in range(len(frame))]
    sources = {
        "pandas": frame,
        "pandas with categories": frame.astype({"carrier": "category"}),
        "polars": pl.from_arrow(flights),
        "reader": flights.to_reader(max_chunksize=13),
        "batches": flights.to_batches(max_chunksize=17),
        "dicts": flights.to_pylist(),
        "generator": (row for row in flights.to_pylist()),
        "parquet": tmp_path / "flights.parquet",
        "folder": folder,
        "arrow": str(tmp_path / "flights.arrow"),
        "large strings": flights.set_column(
            1, "carrier", flights["carrier"].cast(pa.large_string())
        ),
        "dictionary": flights.set_column(1, "carrier", flights["carrier"].dictionary_encode()),
        "nanoseconds": flights.set_column(
            2, "departure", flights["departure"].cast(pa.timestamp("ns", "Europe/Berlin"))
        ),
        "narrow": flights.set_column(0, "flight", flights["flight"].cast(pa.int16())),
    }
    assert {name: identities(data) for name, data in sources.items()} == dict.fromkeys(
        sources, expected
    )


def test_text_files_give_the_same_jobs_where_they_say_the_same(
    flights: pa.Table, tmp_path: Path
) -> None:
    table = flights.drop_columns(["departure"])
    pa.csv.write_csv(table, tmp_path / "flights.csv")
    frame = table.to_pandas()
    # pandas writes True and False, which a text file's column of booleans does not say.
    written = frame["cancelled"].map({True: "true", False: "false"})
    frame.assign(cancelled=written).to_csv(tmp_path / "flights.csv.gz", index=False)
    frame.to_json(tmp_path / "flights.jsonl", orient="records", lines=True)
    frame.to_json(tmp_path / "flights.json", orient="records")
    expected = identities(table)
    for name in ("flights.csv", "flights.csv.gz", "flights.jsonl", "flights.json"):
        assert identities(tmp_path / name) == expected, name


def test_scope_is_the_queue_and_the_name(flights: pa.Table) -> None:
    seen = [
        identities(flights),
        identities(flights, "other"),
        identities(flights, name="january"),
        identities(flights, name="february"),
        identities(flights, "other", name="january"),
    ]
    assert len({batch_id for batch_id, _ in seen}) == len(seen)
    assert len({key for _, found in seen for key in found}) == len(seen) * flights.num_rows


def test_a_named_batch_keeps_its_id_whatever_rows_it_has(flights: pa.Table) -> None:
    whole, _ = identities(flights, name="january")
    assert identities(flights.slice(5), name="january")[0] == whole
    assert identities(flights.slice(5))[0] != identities(flights)[0]


def test_with_a_key_only_its_columns_count(flights: pa.Table) -> None:
    by_key = identities(flights, key=["flight", "carrier"])
    changed = flights.set_column(4, "distance", pa.array([0] * flights.num_rows))
    assert identities(changed, key=["carrier", "flight"]) == by_key
    assert identities(changed)[1] != identities(flights)[1]
    assert identities(flights, key="flight")[1] != by_key[1]
    # The key's columns need not be in the payload.
    assert identities(flights, key=["flight", "carrier"], payload=["delay"]) == by_key


def test_equal_keys_are_one_job_and_equal_rows_are_as_many_jobs_as_there_are_rows() -> None:
    rows = [{"id": 1, "x": "a"}, {"id": 1, "x": "b"}, {"id": 2, "x": "a"}, {"id": 1, "x": "a"}]
    _, by_key = identities(rows, key="id")
    assert by_key[0] == by_key[1] == by_key[3] != by_key[2]
    _, by_row = identities(rows)
    assert len(set(by_row)) == 4
    # One occurrence more is one job more; the others stay who they are.
    _, with_more = identities([*rows, rows[3]])
    assert set(by_row) < set(with_more)
    assert len(with_more) == 5


def test_a_row_is_not_confused_with_one_whose_texts_are_cut_elsewhere() -> None:
    rows = [{"a": "x", "b": "yz"}, {"a": "xy", "b": "z"}, {"a": None, "b": "xyz"}]
    assert len(set(identities(rows)[1])) == 3
    assert len(set(identities(rows, key=["a", "b"], on_rejected="skip")[1])) == 2
    assert identities([{"a": 1}])[1] != identities([{"a": "1"}])[1]


def test_names_may_hold_any_sign() -> None:
    table = pa.table({"a": [1], "a\x00b": [2], "ü": [3]})
    assert len({identities(table, key=name)[1][0] for name in table.column_names}) == 3


def test_keys_are_thirty_two_hexadecimal_digits_and_stay_what_they_are() -> None:
    # Changing how keys are made would enqueue everybody's rows a second time.
    batch_id, found = identities(pd.DataFrame({"n": [1, 2, 2], "s": ["a", None, None]}), "flights")
    assert batch_id == "b_ce12e5668b55be9f47538d46110440cf"
    assert found == [
        "dedf34f2154ee456e7229777e8d8e844",
        "f6abdb6c1b79b7ec513370fd8a24ee08",
        "08665e4aa69eefab3afaf649f0e8cb1f",
    ]


@pytest.mark.parametrize(
    ("bucket", "extent"), [(8, 32), (8, 1 << 20), (64, 640), (100_000, 1 << 20)]
)
def test_occurrences_are_counted_in_order_however_many_rows_there_are(
    monkeypatch: pytest.MonkeyPatch, bucket: int, extent: int
) -> None:
    monkeypatch.setattr(duplicates, "_BUCKET_ROWS", bucket)
    monkeypatch.setattr(duplicates, "_EXTENT_BYTES", extent)
    order = random.Random(7)
    values = [b"%d" % order.randrange(300) for _ in range(1_000)]
    hashes = idempotency.row_hashes(pa.array(values), b"s" * 16)
    parts = [hashes.slice(0, 333), hashes.slice(333, 1), hashes.slice(334)]
    found = duplicates.DuplicateIndex(iter(parts), len(values))
    numbered = pa.concat_arrays(
        [found.make_distinct(part, first) for part, first in zip(parts, (0, 333, 334), strict=True)]
    ).to_pylist()
    found.close()
    assert len(set(numbered)) == 1_000
    seen: set[bytes] = set()
    for value, before, after in zip(values, hashes.to_pylist(), numbered, strict=True):
        assert (after == before) == (value not in seen)
        seen.add(value)
    assert found.repeated == 1_000 - len(set(values))
