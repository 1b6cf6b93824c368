"""The tables of docs/batches.md and docs/howto/files.md, row by row."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from spooled_pipelines.batch.options.text_options import TextOptions
from spooled_pipelines.batch.source.open import open_source
from spooled_pipelines.batch.source.row_filter import Scan

DOCS = Path(__file__).parents[2] / "docs"
TABLE = pa.table({"id": [1, 2, 3], "name": ["a", "b", "c"]})
ROWS = TABLE.to_pylist()


def table_after(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table that begins with a cell."""
    lines = (DOCS / page).read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def _parquet(folder: Path) -> Path:
    pq.write_table(TABLE, folder / "a.parquet")
    return folder / "a.parquet"


def _query(_: Path) -> Any:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (id INTEGER, name TEXT)")
    connection.executemany("INSERT INTO t VALUES (?, ?)", [tuple(row.values()) for row in ROWS])
    return connection.execute("SELECT id, name FROM t ORDER BY id")


def _delta(folder: Path) -> Path:
    write_deltalake(folder / "lake", TABLE)
    return folder / "lake"


# How each row of the table begins -> such a table.
SOURCES: dict[str, Callable[[Path], Any]] = {
    "a pandas DataFrame": lambda _: pd.DataFrame(ROWS),
    "a polars DataFrame": lambda _: pl.DataFrame(ROWS),
    "a pyarrow Table": lambda _: TABLE,
    "an iterable of dicts": lambda _: iter(ROWS),
    "an iterable of tables": lambda _: iter([TABLE.slice(0, 1), TABLE.slice(1)]),
    "a dict of equally long lists": lambda _: np.array(
        [tuple(row.values()) for row in ROWS], dtype=[("id", "i8"), ("name", "U1")]
    ),
    "`None`, with `sql=": _query,
    "a path or URI": _parquet,
    "a glob": lambda folder: f"{_parquet(folder).parent}/*.parquet",
    "the folder of a Delta table": _delta,
}


def test_every_source_that_is_published_is_read(tmp_path: Path) -> None:
    published = [row[0] for row in table_after("batches.md", "source")]
    for source in published:
        (name,) = [name for name in SOURCES if source.startswith(name)]
        folder = tmp_path / str(published.index(source))
        folder.mkdir()
        batches = open_source(SOURCES[name](folder)).batches
        assert [row for batch in batches for row in batch.to_pylist()] == ROWS, name
    assert len(published) == len(SOURCES)


def test_every_option_of_text_files_is_published_with_its_flag() -> None:
    published = table_after("howto/files.md", "option")
    assert [row[0].strip("`") for row in published] == [field.name for field in fields(TextOptions)]
    flags = [flag for row in published for flag in row[1].replace("`", "").split(", ")]
    known = (DOCS / "cli.md").read_text()
    assert [flag for flag in flags if f"`{flag}`" not in known and f"`{flag} " not in known] == []


@pytest.mark.parametrize(
    ("said", "cells", "expected"),
    [
        ("`12`, `-3`, `12.50`", ["12", "-3", "12.50"], [12, -3, 12.5]),
        ("`00501`", ["00501", "1"], ["00501", "1"]),
        ("`true` and `false` alone", ["true", "false"], [True, False]),
        ("dates and times", ["2024-02-29", "05:00"], ["2024-02-29", "05:00"]),
        ("an empty field", ["", '""', "x"], [None, "", "x"]),
        ("`NA`", ["NA", "1"], [None, 1]),
    ],
)
def test_a_column_of_a_text_file_is_what_the_page_says(
    tmp_path: Path, said: str, cells: list[str], expected: list[Any]
) -> None:
    rows = table_after("howto/files.md", "in the file")
    assert len(rows) == 6
    assert [row for row in rows if row[0].startswith(said)]
    path = tmp_path / "a.csv"
    path.write_text("n,a\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells)))
    batches = open_source(str(path), Scan()).batches
    assert [value for batch in batches for value in batch.column("a").to_pylist()] == expected
