"""Many files are one table, whatever they are; where they are not alike the file is named."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.batch.source.open import open_source
from spooled_pipelines.batch.source.row_filter import parse_scan
from spooled_pipelines.errors import InvalidArgumentError, SourceError


def rows_of(data: Any, columns: Any = None, where: Any = None) -> list[dict[str, Any]]:
    source = open_source(data, parse_scan(RowOptions(columns=columns, where=where)))
    return [row for batch in source.batches for row in batch.to_pylist()]


def refused(data: Any, **selection: Any) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        rows_of(data, **selection)
    return str(caught.value)


def _json(table: Any, path: Path) -> None:
    path.write_text(json.dumps(table.to_pylist(), indent=1))


def _arrow(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table)


def _lines(table: pa.Table, path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))


def _zipped_lines(table: pa.Table, path: Path) -> None:
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in table.to_pylist())


def _zipped_csv(table: pa.Table, path: Path) -> None:
    with pa.output_stream(path, compression="detect") as stream:
        pyarrow.csv.write_csv(table, stream)


WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "parquet": pq.write_table,
    "csv": pyarrow.csv.write_csv,
    "csv.gz": _zipped_csv,
    "csv.zst": _zipped_csv,
    "jsonl": _lines,
    "ndjson.gz": _zipped_lines,
    "json": _json,
    "arrow": _arrow,
}


@pytest.fixture(params=sorted(WRITERS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(kind: str, tmp_path: Path) -> Path:
    """`month=1/a`, `month=2/b` and `month=2/c`, of two rows each, with what writers leave."""
    for number, (month, name) in enumerate((("1", "a"), ("2", "b"), ("2", "c"))):
        table = pa.table({"n": [2 * number, 2 * number + 1], "text": [f"{name}0", f"{name}1"]})
        below = tmp_path / f"month={month}"
        below.mkdir(exist_ok=True)
        WRITERS[kind](table, below / f"{name}.{kind}")
        (below / "_SUCCESS").touch()
        (below / f".{name}.crc").write_text("not for us")
    return tmp_path


def test_a_partitioned_folder_of_any_kind_is_one_table(folder: Path) -> None:
    rows = rows_of(folder)
    assert [row["n"] for row in rows] == list(range(6))
    assert [row["month"] for row in rows] == [1, 1, 2, 2, 2, 2]
    assert rows[2] == {"n": 2, "text": "b0", "month": 2}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("month=2/*", [2, 3, 4, 5]),
        ("month=*/[bc].*", [2, 3, 4, 5]),
        ("month=*/[!b].*", [0, 1, 4, 5]),
        ("**/a.*", [0, 1]),
        ("month=?/c.*", [4, 5]),
        ("**", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_a_glob_names_files(folder: Path, kind: str, pattern: str, expected: list[int]) -> None:
    pattern = f"{pattern.removesuffix('.*')}.{kind}"
    assert [row["n"] for row in rows_of(f"{folder}/{pattern}")] == expected
    if "?" not in pattern:
        assert [row["n"] for row in rows_of(f"{folder.as_uri()}/{pattern}")] == expected


def test_columns_and_rows_are_selected(folder: Path) -> None:
    assert rows_of(folder, columns=["text"])[0] == {"text": "a0"}
    assert list(rows_of(folder, columns=["month", "n"])[3].items()) == [("month", 2), ("n", 3)]
    assert rows_of(folder, columns=["month"]) == [{"month": m} for m in (1, 1, 2, 2, 2, 2)]
    assert [row["n"] for row in rows_of(folder, where=[("month", "==", 2)])] == [2, 3, 4, 5]
    either = [[("n", "<", 1)], [("text", "in", ["c1"])]]
    assert rows_of(folder, columns=["n"], where=either) == [{"n": 0}, {"n": 5}]
    assert rows_of(folder, columns=["n"], where=pc.field("text") == "b1") == [{"n": 3}]
    assert "no column 'nothing'" in refused(folder, columns=["nothing"])
    assert "where does not fit" in refused(folder, where=[("nothing", "==", 1)])
    assert "in the query or the frame" in refused(folder, where="n > 1")


def test_the_same_through_a_file_system_that_only_fsspec_knows(folder: Path, kind: str) -> None:
    there = fsspec.filesystem("memory")
    for path in folder.rglob(f"*.{kind}"):
        there.pipe(f"/{folder.name}/{path.relative_to(folder)}", path.read_bytes())
    assert rows_of(f"memory://{folder.name}") == rows_of(folder)
    pattern = f"memory://{folder.name}/month=2/*.{kind}"
    assert [row["n"] for row in rows_of(pattern)] == [2, 3, 4, 5]


def test_a_path_that_brings_its_file_system_is_read_with_that(folder: Path, kind: str) -> None:
    upath = pytest.importorskip("upath")
    there = fsspec.filesystem("memory")
    data = (folder / "month=1" / f"a.{kind}").read_bytes()
    there.pipe(f"/own/{folder.name}/a.{kind}", data)
    path = upath.UPath(f"memory://own/{folder.name}/a.{kind}")
    assert [row["n"] for row in rows_of(path)] == [0, 1]
    assert [row["n"] for row in rows_of(path.parent)] == [0, 1]


def test_what_does_not_match_is_said(tmp_path: Path) -> None:
    assert "no file matches" in refused(tmp_path / "*.parquet")
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b.jsonl").write_text('{"a": 1}\n')
    assert "several formats (csv, json)" in refused(tmp_path)
    (tmp_path / "c.txt").write_text("x")
    assert "c.txt" in refused(tmp_path)
    (tmp_path / "odd[1].csv").write_text("a\n7\n")
    assert rows_of(tmp_path / "odd[1].csv") == [{"a": 7}]
    pq.write_table(pa.table({"a": [1]}), tmp_path / "p.parquet")
    with gzip.open(tmp_path / "p.parquet.gz", "wb") as file:
        file.write((tmp_path / "p.parquet").read_bytes())
    assert "unpack it" in refused(tmp_path / "p.parquet.gz")


def test_the_values_of_folders_are_what_was_written(tmp_path: Path) -> None:
    for name in ("day=07/of=a%2Fb", "day=10/of=__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / name).mkdir(parents=True)
        pq.write_table(pa.table({"a": [1]}), tmp_path / name / "p.parquet")
    assert [(row["day"], row["of"]) for row in rows_of(tmp_path)] == [("07", "a/b"), ("10", None)]
    assert len(rows_of(tmp_path, where=[("day", "==", "07")])) == 1
    pq.write_table(pa.table({"a": [1]}), tmp_path / "p.parquet")
    assert "They must be the same" in refused(tmp_path)


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (pa.table({"a": [1]}), "has no column 'b'"),
        (pa.table({"a": [1], "b": ["x"], "c": [1]}), "has a column 'c' that"),
        (pa.table({"a": ["x"], "b": ["x"]}), "column 'a' is string in the file"),
        (pa.table({"a": [1], "b": [{"x": 1}]}), "column 'b' is struct"),
    ],
    ids=["missing", "more", "other type", "nested"],
)
def test_a_schema_that_changes_between_files_is_refused_with_both(
    tmp_path: Path, second: pa.Table, said: str
) -> None:
    first = pa.table({"a": [1, 2], "b": ["x", "y"]})
    pq.write_table(first, tmp_path / "1.parquet")
    pq.write_table(second, tmp_path / "2.parquet")
    message = refused(tmp_path)
    assert said in message
    assert "1.parquet" in message
    assert "2.parquet" in message
    assert message.endswith("Nothing was sent.")


def test_a_change_that_no_payload_would_show_is_none(tmp_path: Path) -> None:
    tables = [
        pa.table({"a": pa.array([1], pa.int32()), "b": pa.nulls(1)}),
        pa.table({"b": pa.array(["x"]).dictionary_encode(), "a": [1.5]}),
        pa.table({"a": pa.nulls(1), "b": pa.array(["y"], pa.large_string())}),
    ]
    for number, table in enumerate(tables):
        pq.write_table(table, tmp_path / f"{number}.parquet")
    read = [{"a": 1, "b": None}, {"a": 1.5, "b": "x"}, {"a": None, "b": "y"}]
    assert rows_of(tmp_path) == read
    assert rows_of(tmp_path, where=[("a", ">", 1)]) == [read[1]]


def test_an_unreadable_file_in_the_middle_is_named(tmp_path: Path) -> None:
    for number in range(3):
        pq.write_table(pa.table({"a": [number]}), tmp_path / f"{number}.parquet")
    (tmp_path / "1.parquet").write_bytes(b"PAR1 and no more")
    assert "1.parquet' cannot be read" in refused(tmp_path)


@dataclass
class _Path:
    fs: Any
    path: str
    protocol: str = "memory"

    def __str__(self) -> str:
        return f"shaky://{self.path}"


def test_a_disk_that_fails_may_be_tried_again(tmp_path: Path) -> None:
    class Failing(fsspec.get_filesystem_class("memory")):
        protocol = "failing"

        def _open(self, path: str, *arguments: Any, **settings: Any) -> Any:
            if "b.csv" in path and settings["mode"] == "rb":
                raise OSError("the share went away")
            return super()._open(path, *arguments, **settings)

    there = Failing()
    for name in "abc":
        there.pipe(f"/shaky/{name}.csv", b"a\n1\n")
    with pytest.raises(SourceError, match=r"b\.csv' cannot be read: the share went away"):
        rows_of(_Path(there, "/shaky"))


def test_engines_leave_empty_files_for_parts_without_rows(tmp_path: Path) -> None:
    (tmp_path / "0.jsonl").touch()
    (tmp_path / "1.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "2.jsonl").touch()
    assert rows_of(tmp_path) == [{"a": 1}]


def test_a_parquet_file_is_read_no_further_than_where_needs(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table({"n": range(100_000), "text": ["x" * 50] * 100_000})
    pq.write_table(table, path, row_group_size=10_000, compression="none", use_dictionary=False)
    with path.open("r+b") as file:
        # Break a row group that no row is wanted of.
        file.seek(path.stat().st_size // 2 + 200_000)
        file.write(b"\xff" * 10_000)
    assert "cannot be read" in refused(path)
    assert [row["n"] for row in rows_of(path, where=[("n", "<", 3)])] == [0, 1, 2]


def test_a_json_array_is_read_piece_by_piece(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    rows = [{"n": i, "text": 'äöü \\" ]},' * 20} for i in range(30_000)]
    path.write_text("﻿ " + json.dumps(rows, ensure_ascii=False) + "\n")
    source = open_source(path)
    before = pa.total_allocated_bytes()
    first = next(iter(source.batches))
    assert first.num_rows <= 10_000
    assert pa.total_allocated_bytes() - before < path.stat().st_size
    assert rows_of(path) == rows
    path.write_text("[]")
    assert "no rows" in refused(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"a": 1}, {"a": }]', "item 1 of .* is not JSON"),
        ('[{"a": 1} {"a": 2}]', "not closed after item 0"),
        ('[{"a": 1}] {"a": 2}', "goes on after the end"),
        ('[{"a": 1}, {"a": "x', "item 1 of .* is not JSON"),
        ('[{"a": 1}, 5]', "item 1 of .* is not a JSON object"),
        ('[{"a": 1, "a": 2}]', "one name twice"),
        ('{"a": 1, "a": 2}', "line 1 of .* one name twice"),
    ],
)
def test_json_that_is_none_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(InvalidArgumentError, match=said):
        rows_of(path)


def test_no_file_is_read_twice_by_way_of_links_or_of_overlapping_paths(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "below").symlink_to(".")
    twice = ["below/a.csv", "a.csv", "twice"]
    assert all(word in refused(tmp_path) for word in twice)
    assert "the same file" in refused([tmp_path / "a.csv", f"{tmp_path}/*.csv"])
    (tmp_path / "below").unlink()
    assert rows_of(tmp_path) == [{"a": 1}]


def test_a_list_of_paths_is_one_table_whatever_each_of_them_is(tmp_path: Path) -> None:
    rows = [{"id": n, "zip": "00501" if n == 0 else "10115"} for n in range(4)]
    for name in ("one", "folder/two", "folder/three", "other/four"):
        path = tmp_path / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("id,zip\n{id},{zip}\n".format(**rows.pop(0)))
    storage = fsspec.filesystem("memory")
    storage.pipe("/bucket/five.csv", b"id,zip\n4,20095\n")
    place = SimpleNamespace(fs=storage, path="/bucket/*.csv", protocol="memory")
    paths = [tmp_path / "one.csv", str(tmp_path / "folder"), f"{tmp_path}/other/*.csv", place]
    read = rows_of(paths)
    # A code in one of them is a text in all of them.
    assert {row["zip"] for row in read} == {"00501", "10115", "20095"}
    assert [row["id"] for row in read] == [0, 2, 1, 3, 4]
    assert rows_of(paths, where=[("id", ">", 3)]) == [{"id": 4, "zip": "20095"}]
    assert "no file matches" in refused([tmp_path / "one.csv", f"{tmp_path}/none-*.csv"])
    assert "must be one, got int" in refused([str(tmp_path / "one.csv"), 7])
