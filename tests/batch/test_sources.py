"""Whatever holds a table is read as a stream, or refused with what is wrong and what to do."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from spooled_pipelines.batch.source.open import BATCH_BYTES, BATCH_ROWS, open_source
from spooled_pipelines.batch.source.row_filter import Scan
from spooled_pipelines.errors import EmptyTableError, InvalidArgumentError


def rows_of(data: Any) -> list[dict[str, Any]]:
    return [row for batch in open_source(data).batches for row in batch.to_pylist()]


def refused(data: Any) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        rows_of(data)
    return str(caught.value)


def test_a_data_frames_index_is_no_column() -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=["x", "y"])
    assert rows_of(frame) == [{"a": 1}, {"a": 2}]
    assert rows_of(frame.rename_axis("name")) == [{"a": 1}, {"a": 2}]
    assert rows_of(frame.rename_axis("name").reset_index())[0] == {"name": "x", "a": 1}
    scan = Scan()
    open_source(frame.rename_axis("name"), scan)
    assert scan.notes == ["the index, name, is not sent: index=True has it as a column"]


def test_pandas_missing_values_are_null() -> None:
    frame = pd.DataFrame(
        {
            "float": [1.5, float("nan")],
            "text": ["a", None],
            "whole": pd.array([1, None], dtype="Int64"),
            "time": pd.to_datetime(cast("Any", ["2013-01-01", None])),
            "category": pd.Categorical(["x", None]),
            "object": [{"k": 1}, None],
        }
    )
    first, second = rows_of(frame)
    assert first["object"] == {"k": 1}
    assert set(second.values()) == {None}


def test_columns_that_a_payload_cannot_name_are_refused_with_advice() -> None:
    assert "MultiIndex" in refused(pd.DataFrame({("a", "b"): [1]}))
    assert "'a'" in refused(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    assert "no columns" in refused(pd.DataFrame(index=[1, 2]))


def test_a_name_that_is_there_twice_is_refused_where_it_is_selected() -> None:
    table = pa.table([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "a", "b"])
    with pytest.raises(InvalidArgumentError, match="more than one column named 'a'"):
        open_source(table, Scan(columns=("a",)))
    assert next(open_source(table, Scan(columns=("b",))).batches).to_pylist() == [{"b": 3}]


def test_dictionaries_that_are_too_many_for_one_are_read_one_by_one() -> None:
    kind = pa.dictionary(pa.int8(), pa.string())
    texts = [[f"{batch} {index}" for index in range(100)] for batch in range(3)]
    batches = [pa.record_batch({"a": pa.array(each).cast(kind)}) for each in texts]
    assert rows_of(iter(batches)) == [{"a": text} for each in texts for text in each]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([["x"], None, ["y"]], pa.list_(pa.string_view())),
        pa.array([{"s": b"x"}, None, {"s": b"y"}], pa.struct([("s", pa.binary_view())])),
        pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["x", "y"])),
        pl.Series(["x", None, "y"], dtype=pl.Categorical).to_arrow(),
    ],
    ids=lambda values: str(values.type)[:12],
)
def test_a_filter_keeps_values_however_they_are_stored(values: pa.Array) -> None:
    table = pa.table({"n": [0, 1, 2], "a": values})
    batches = open_source(table, Scan(where=pc.field("n") > 0)).batches
    assert [row["a"] for batch in batches for row in batch.to_pylist()] == values.to_pylist()[1:]


def test_what_polars_cannot_give_is_refused_by_its_column() -> None:
    assert "column 'a' is of polars' dtype Int128" in refused(
        pl.DataFrame({"a": [1]}, schema={"a": pl.Int128})
    )
    assert "to_frame" in refused(pl.Series([1]))
    late = pl.LazyFrame({"a": [*["1"] * 2_000, "x"]}).select(pl.col("a").cast(pl.Int64))
    assert "conversion from `str`" in refused(late)
    assert "'b'" in refused(pl.LazyFrame({"a": [1]}).select("b")).replace('"', "'")


def test_a_column_that_arrow_cannot_hold_is_refused_by_its_name_and_dtype() -> None:
    frame = pd.DataFrame({"id": [1, 2], "wave": [1 + 2j, 3j]})
    said = refused(frame)
    assert "column 'wave' is of dtype complex128" in said
    assert "columns=" in said
    assert rows_of(frame.drop(columns="wave")) == [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize(
    "make",
    [
        lambda table: table,
        lambda table: table.to_reader(),
        lambda table: table.to_batches()[0],
        lambda table: iter(table.to_batches()),
        ds.dataset,
        lambda table: ds.dataset(table).scanner(),
        pl.from_arrow,
        lambda table: table.to_pandas(),
        lambda table: table.to_pylist(),
        lambda table: iter(table.to_pylist()),
        lambda table: tuple(table.to_pylist()),
    ],
    ids=[
        "table",
        "reader",
        "record batch",
        "record batches",
        "dataset",
        "scanner",
        "polars",
        "pandas",
        "list",
        "generator",
        "tuple",
    ],
)
def test_tables_of_every_library_are_read(make: Callable[[pa.Table], Any]) -> None:
    table = pa.table({"a": range(25), "b": [f"{i}" for i in range(25)]})
    assert rows_of(make(table)) == table.to_pylist()


def test_files_are_read_by_their_extension(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    rows = table.to_pylist()
    pq.write_table(table, tmp_path / "t.parquet")
    with pa.ipc.new_file(tmp_path / "t.arrow", table.schema) as file:
        file.write_table(table)
    with pa.ipc.new_stream(tmp_path / "stream.arrow", table.schema) as stream:
        stream.write_table(table)
    (tmp_path / "t.csv").write_text("a,b\n1,x\n2,y\n3,z\n")
    lines = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "t.jsonl").write_text(lines)
    (tmp_path / "lines.json").write_text("\n" + lines + "\n\n")
    (tmp_path / "array.json").write_text(json.dumps(rows))
    with gzip.open(tmp_path / "t.jsonl.gz", "wt") as packed:
        packed.write(lines)
    for path in tmp_path.iterdir():
        assert rows_of(path) == rows, path.name
        assert rows_of(str(path)) == rows, path.name


def test_a_folder_of_parquet_is_one_table(tmp_path: Path) -> None:
    for month in (1, 2):
        folder = tmp_path / f"month={month}"
        folder.mkdir()
        pq.write_table(pa.table({"a": [month * 10]}), folder / "part.parquet")
    assert sorted(row["a"] for row in rows_of(tmp_path)) == [10, 20]
    # The folders' names are a column.
    assert {(row["a"], row["month"]) for row in rows_of(tmp_path)} == {(10, 1), (20, 2)}


def test_json_text_that_looks_like_a_time_stays_text(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"t": "2013-01-01 05:00:00"}\n')
    assert rows_of(tmp_path / "t.jsonl") == [{"t": "2013-01-01 05:00:00"}]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.parquet", "no parquet", "cannot be read"),
        ("t.arrow", "no arrow", "cannot be read"),
        ("t.csv", "", "not even a header"),
        ("t.csv", "a,b\n1,2\n3\n", "line 3 .* has 1 fields, and the file has 2 columns"),
        ("t.jsonl", "", "no rows"),
        ("t.jsonl", '{"a": 1}\n{"a"\n', "line 2"),
        ("t.jsonl", '{"a": 1}\n[1]\n', "line 2 .* not a JSON object"),
        ("t.json", "[1, 2]", "item 0 .* not a JSON object"),
        ("t.json", '[{"a": 1}', "is not closed"),
        ("t.xlsx", "", r"\.xlsx.*Known are \.parquet"),
        ("table", "", "no extension"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InvalidArgumentError, match=said):
        rows_of(path)


def test_a_path_where_nothing_is_says_where_it_looked(tmp_path: Path) -> None:
    assert "there is no file" in refused(tmp_path / "nothing.csv")
    (tmp_path / "empty").mkdir()
    assert "holds no file that can be read" in refused(tmp_path / "empty")


def test_a_file_that_turns_bad_half_way_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = ["n,text", *(f"{i},row {i}" for i in range(200_000)), "1,x,more"]
    path.write_text("\n".join(lines))
    assert "line 200002" in refused(path)


@pytest.mark.parametrize(
    "data",
    [None, 5, b"bytes", {"a": 1}, {"a": [1], "b": [1, 2]}, object(), [1, 2]],
)
def test_what_holds_no_table_is_told_what_would(data: Any) -> None:
    assert "DataFrame" in refused(data)


def test_things_that_only_nearly_hold_a_table_are_refused() -> None:
    assert "Series" in refused(pd.Series([1, 2]))
    assert "keys must be texts" in refused([{1: 2}])


def test_a_column_may_change_its_type_on_the_way() -> None:
    ones = [{"a": 1}] * BATCH_ROWS
    assert rows_of([*ones, {"a": "x"}])[-1] == {"a": "x"}
    assert rows_of([*ones, {"a": None}, {"a": 1.5}])[-2:] == [{"a": None}, {"a": 1.5}]
    nulls = [{"a": None}] * BATCH_ROWS
    assert rows_of([*nulls, {"a": "x"}])[-1] == {"a": "x"}


def test_a_key_that_comes_late_is_a_column_of_a_list_and_refused_in_a_generator() -> None:
    rows: list[dict[str, Any]] = [{"a": 1}] * BATCH_ROWS
    rows.append({"a": 1, "b": 2})
    assert rows_of(rows)[0] == {"a": 1, "b": None}
    assert f"row {BATCH_ROWS} has a key that no row before it has (b)" in refused(iter(rows))


def test_record_batches_must_be_of_one_schema() -> None:
    batches = [pa.record_batch({"a": [1]}), pa.record_batch({"a": ["x"]})]
    assert "record batch 1" in refused(batches)
    assert "'a' is string" in refused(batches)


def test_a_generator_that_raises_is_the_callers_own_error() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"a": 1}
        raise RuntimeError("the cursor was closed")

    with pytest.raises(RuntimeError, match="the cursor was closed"):
        rows_of(rows())


def test_batches_are_neither_tiny_nor_huge() -> None:
    tiny = pa.table({"a": range(30_000)}).to_reader(max_chunksize=100)
    sizes = [batch.num_rows for batch in open_source(tiny).batches]
    assert sum(sizes) == 30_000
    assert max(sizes) <= BATCH_ROWS
    assert len(sizes) <= 4
    wide = pa.table({"a": ["x" * 100_000] * 500})
    assert max(b.nbytes for b in open_source(wide).batches) < 2 * BATCH_BYTES
    skewed = pa.table({"a": ["x" * (40 << 20)] + [""] * 9_000})
    assert next(b.num_rows for b in open_source(skewed).batches) < 9_000


def test_text_that_is_no_utf8_is_refused() -> None:
    broken = pa.array([b"ok", b"\xff\xfe"]).view(pa.string())
    assert "UTF8" in refused(pa.table({"a": broken})).replace("UTF-8", "UTF8")


_PEAK = """
import resource, sys
from spooled_pipelines.batch.outcome.ledger import ChunkResult
from spooled_pipelines.batch.outcome.ledger import Ledger
from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.batch.staging.prepare import prepare

prepared = prepare(sys.argv[1], "q", RowOptions())
ledger = Ledger()
for chunk in prepared.chunks():
    chunk.message()
    ids = ["00000000-0000-0000-0000-000000000000"] * len(chunk.rows)
    ledger.add(chunk.rows, chunk.keys, ChunkResult(ids))
assert ledger.created == int(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_two_million_rows_need_no_more_memory_than_fifty_thousand(tmp_path: Path) -> None:
    part = pa.table({"text": [f"row {i}" for i in range(50_000)], "half": pa.nulls(50_000)})
    peaks = []
    for rows in (50_000, 2_000_000):
        path = tmp_path / f"{rows}.parquet"
        with pq.ParquetWriter(path, part.append_column("n", pa.array(range(50_000))).schema) as to:
            for first in range(0, rows, 50_000):
                to.write_table(part.append_column("n", pa.array(range(first, first + 50_000))))
        command = [sys.executable, "-c", _PEAK, str(path), str(rows)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] < 1.3 * peaks[0]


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.csv.gz", "t.jsonl", "t.arrow"])
def test_a_uri_is_read_like_a_path(tmp_path: Path, name: str) -> None:
    import fsspec

    table = pa.table({"a": [1, 2], "b": ["x", None]})
    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(table, path)
    elif name.endswith("arrow"):
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    elif name.endswith("jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        with pa.output_stream(path, compression="detect") as stream:
            table.to_pandas().to_csv(stream, index=False)
    here = rows_of(path)
    assert [row["a"] for row in here] == [1, 2]
    assert rows_of(path.as_uri()) == here
    # A scheme that only fsspec knows.
    elsewhere = fsspec.filesystem("memory")
    elsewhere.pipe(f"/folder/{name}", path.read_bytes())
    assert rows_of(f"memory://folder/{name}") == here


def test_a_uri_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    assert "no way here to read nosuch:// URIs" in refused("nosuch://bucket/t.parquet")
    missing = (tmp_path / "no.parquet").as_uri()
    assert f"there is no file '{missing}'" in refused(missing)


def test_pieces_of_a_table_are_one_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,x\n2,y\n3.5,z\n")
    chunks = pd.read_csv(tmp_path / "t.csv", chunksize=2)
    assert rows_of(chunks) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": 3.5, "b": "z"}]
    tables = [pa.table({"a": [1], "b": ["x"]}), pa.table({"b": ["y"], "a": [2]})]
    assert rows_of(tables) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert rows_of(iter([pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [2]})])) == [
        {"a": 1},
        {"a": 2},
    ]
    assert "table 1 has the columns b" in refused([pa.table({"a": [1]}), pa.table({"b": [1]})])


def test_a_dict_of_equal_lists_and_a_structured_array_are_columns() -> None:
    assert rows_of({"a": [1, 2], "b": ["x", None]}) == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    array = np.array([(1, 2.5), (2, 3.5)], dtype=[("a", "i4"), ("b", "f8")])
    assert rows_of(array) == [{"a": 1, "b": 2.5}, {"a": 2, "b": 3.5}]
    with pytest.raises(EmptyTableError):
        rows_of({"a": []})


def test_pandas_categories_are_read_as_their_values_whatever_these_are() -> None:
    frame = pd.DataFrame(
        {
            "cut": pd.cut(pd.Series([1, 9]), [0, 5, 10]),
            "month": pd.Categorical(pd.period_range("2020-01", periods=2, freq="M")),
        }
    )
    assert rows_of(frame) == [
        {"cut": "(0, 5]", "month": "2020-01"},
        {"cut": "(5, 10]", "month": "2020-02"},
    ]


def test_pandas_sparse_columns_intervals_and_periods_are_read() -> None:
    frame = pd.DataFrame(
        {
            "sparse": pd.arrays.SparseArray([0, 0, 3]),
            "interval": pd.interval_range(0, 3),
            "period": pd.period_range("2013-01", periods=3, freq="M"),
        }
    )
    assert rows_of(frame)[2] == {"sparse": 3, "interval": "(2, 3]", "period": "2013-03"}


@pytest.mark.parametrize("rows", [{"a\0b": [1]}, {"a": [{"x": [{"y\0": 1}]}]}])
def test_a_name_that_would_end_the_process_of_polars_is_refused(rows: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"column 'a.* has a zero byte in its name"):
        open_source(pl.DataFrame(rows))
