"""A time arrives with every digit that it has, wherever it comes from."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.batch.source.open import open_source
from spooled_pipelines.batch.source.row_filter import parse_scan
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.testing import server

NANO = "2024-01-01T00:00:00.123456789"
FAR = dt.datetime(9999, 12, 31, 1, 2, 3)  # noqa: DTZ001


def texts(data: Any, **options: Any) -> list[str]:
    source = open_source(data, parse_scan(RowOptions(**options)))
    return [
        text
        for record_batch in source.batches
        for text in record_batch.column(0).cast(pa.string()).to_pylist()
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (pd.Timestamp(NANO), NANO),
        (pd.Timestamp(NANO, tz="UTC"), NANO + "Z"),
        (pd.Timedelta(5, "ns"), "P0DT0H0M0.000000005S"),
        ({"x": [pd.Timestamp(NANO)]}, {"x": [NANO]}),
    ],
)
def test_a_python_object_of_pandas_keeps_its_nanoseconds(value: Any, expected: Any) -> None:
    with server() as client:
        for data in ([{"t": value}], pd.DataFrame({"t": pd.Series([value], dtype=object)})):
            client.enqueue_batch(data, "q", name=type(data).__name__)
            [job] = client.dequeue("q", "w")
            assert job.payload["t"] == expected


def test_times_that_differ_by_a_nanosecond_are_two_keys() -> None:
    rows = [{"t": pd.Timestamp(NANO)}, {"t": pd.Timestamp(NANO) + pd.Timedelta(1, "ns")}]
    with server() as client:
        assert client.enqueue_batch(rows, "q", key="t").created == 2


@pytest.mark.parametrize("name", ["t", "t.at"])
@pytest.mark.parametrize("options", [{}, {"where": [("n", ">=", 0)]}])
def test_int96_holds_years_that_nanoseconds_cannot_count(
    tmp_path: Path, options: dict[str, Any], name: str
) -> None:
    path = tmp_path / "t.parquet"
    times = pa.array([FAR, dt.datetime(2024, 1, 1, 0, 0, 0, 500_000)], pa.timestamp("us"))  # noqa: DTZ001
    table = pa.table({name: times, "n": [0, 1]})
    pyarrow.parquet.write_table(table, path, use_deprecated_int96_timestamps=True)
    assert texts(path, **options) == ["9999-12-31 01:02:03.000000", "2024-01-01 00:00:00.500000"]


def test_int96_keeps_its_nanoseconds(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table({"t": pa.array([1_704_067_200_123_456_789], pa.timestamp("ns"))})
    pyarrow.parquet.write_table(table, path, use_deprecated_int96_timestamps=True)
    assert texts(path) == ["2024-01-01 00:00:00.123456789"]


def test_duckdb_s_time_with_a_zone_is_refused_by_name() -> None:
    relation = duckdb.sql("select '10:00:00+02'::TIMETZ t")
    with pytest.raises(InvalidArgumentError, match=r"column 't' .*VARCHAR.*Nothing was sent"):
        open_source(relation)


def test_polars_objects_are_refused_by_name() -> None:
    frame = pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object), "n": [1]})
    with pytest.raises(InvalidArgumentError, match=r"column 'o' .*to_dicts"):
        open_source(frame)
    assert open_source(frame, parse_scan(RowOptions(columns=["n"]))).schema.names == ["n"]


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (pl.Series(["a", "b"], dtype=pl.Categorical), ["a", "b"]),
        (pl.Series(["a"], dtype=pl.Enum(["a"])), ["a"]),
        (pl.Series([["a", "b"]], dtype=pl.List(pl.Categorical)), [["a", "b"]]),
        (pl.Series([{"x": "a"}], dtype=pl.Struct({"x": pl.Enum(["a"])})), [{"x": "a"}]),
    ],
)
def test_polars_categories_are_their_texts(series: pl.Series, expected: list[Any]) -> None:
    with server() as client:
        client.enqueue_batch(pl.DataFrame({"c": series}), "q")
        assert [job.payload["c"] for job in client.dequeue("q", "w", batch_size=9)] == expected
