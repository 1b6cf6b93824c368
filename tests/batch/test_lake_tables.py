"""A lake table is read as one of its versions, or refused by name; never its files alone."""

from __future__ import annotations

import datetime as dt
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, convert_to_deltalake, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFileContent
from pyiceberg.table import Table
from pyiceberg.types import StringType

import spooled_pipelines
from spooled_pipelines import SpooledClient
from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.batch.source.open import open_source
from spooled_pipelines.batch.source.row_filter import parse_scan
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.notebook.plan import plan_card
from tests.support.cli import command
from tests.support.lakes import delete_by_position, delta_with_deletion_vector, sqlite_catalog


def rows_of(data: Any, **options: Any) -> list[dict[str, Any]]:
    source = open_source(data, parse_scan(RowOptions(**options)))
    return [row for batch in source.batches for row in batch.to_pylist()]


def ids_of(data: Any, **options: Any) -> list[int]:
    return sorted(row["id"] for row in rows_of(data, **options))


def refused(data: Any, **options: Any) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        rows_of(data, **options)
    return caught.value.message


@pytest.fixture
def client(tmp_path: Path) -> Iterator[SpooledClient]:
    with spooled_pipelines.connect(f"embedded:{tmp_path}/spooled.db") as connected:
        yield connected


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    """Version 0: ids 0 to 9. 1: without 0 to 3. 2: with 100, and another column. 3: 7 alone."""
    folder = tmp_path / "orders"
    day = dt.date(2024, 2, 29)
    table = pa.table(
        {
            "id": range(10),
            "price": [Decimal("1.10")] * 10,
            "day": [day] * 10,
            "part": ["a b/%", None] * 5,
        }
    )
    write_deltalake(folder, table, partition_by=["part", "day"])
    DeltaTable(folder).delete("id < 4")
    more = pa.table({"id": [100], "price": [Decimal("2.50")], "day": [day], "note": ["new"]})
    write_deltalake(folder, more, mode="append", schema_mode="merge")
    write_deltalake(folder, table.slice(7, 1), mode="overwrite", schema_mode="merge")
    return folder


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[SqlCatalog]:
    made = sqlite_catalog(tmp_path / "warehouse")
    yield made
    made.engine.dispose()


@pytest.fixture
def iceberg(catalog: SqlCatalog) -> Table:
    """Snapshots: ids 0 to 9; without 0 to 3; and with 100, its column renamed and one more."""
    rows = pa.table({"id": pa.array(range(10), pa.int64()), "name": [f"n{i}" for i in range(10)]})
    table = catalog.create_table("db.orders", schema=rows.schema)
    table.append(rows)
    table.delete("id < 4")
    with table.update_schema() as update:
        update.rename_column("name", "title")
        update.add_column("note", StringType())
    table.append(pa.table({"id": [100], "title": ["t"], "note": ["new"]}))
    return table


def test_a_delta_table_is_read_as_its_version(delta: Path, client: SpooledClient) -> None:
    assert ids_of(delta) == [7]
    assert ids_of(delta, table_version=0) == list(range(10))
    assert ids_of(str(delta), table_version="1") == [4, 5, 6, 7, 8, 9]
    rows = {row["id"]: row for row in rows_of(f"file://{delta}", table_version=2)}
    assert rows[100] == {
        "id": 100,
        "price": Decimal("2.50"),
        "day": dt.date(2024, 2, 29),
        "part": None,
        "note": "new",
    }
    assert (rows[4]["part"], rows[5]["part"], rows[4]["note"]) == ("a b/%", None, None)
    plan = client.plan_batch(delta, "q", table_version=2)
    assert (plan.rows, plan.table_version, plan.notes) == (7, 2, ("Delta table, version 2",))
    assert plan.to_dict()["table_version"] == 2
    batch = client.enqueue_batch(delta, "q", key="id")
    assert (batch.created, batch.table_version, batch.to_dict()["table_version"]) == (1, 3, 3)
    assert client.batch(batch.to_dict()).table_version == 3
    for shown in (batch._repr_html_(), plan_card(plan, client._settings).html()):
        assert "Delta table, version" in shown


def test_columns_and_rows_of_a_delta_table_are_chosen(delta: Path) -> None:
    where = [("part", "=", "a b/%"), ("id", ">", 4)]
    assert rows_of(delta, table_version=0, columns=["id"], where=where) == [{"id": 6}, {"id": 8}]
    assert "there is no column 'nope'" in refused(delta, columns=["nope"])


def test_a_delta_table_object_is_read_and_stays_at_its_version(delta: Path) -> None:
    table = DeltaTable(delta, version=1)
    assert ids_of(table) == [4, 5, 6, 7, 8, 9]
    assert ids_of(table, table_version=3) == [7]
    assert table.version() == 1


def test_a_version_is_also_named_by_a_time(delta: Path) -> None:
    times = {entry["version"]: entry["timestamp"] for entry in DeltaTable(delta).history()}
    first = dt.datetime.fromtimestamp(times[0] / 1000, dt.timezone.utc)
    assert ids_of(delta, table_version=first) == list(range(10))
    assert ids_of(delta, table_version=dt.datetime.now(dt.timezone.utc).isoformat()) == [7]
    assert "no version as old as" in refused(delta, table_version="2001-01-01T00:00:00Z")


def test_deleted_rows_of_a_deletion_vector_are_not_read(tmp_path: Path) -> None:
    table = pa.table({"id": range(50_000), "tags": [[f"t{i}"] for i in range(50_000)]})
    delta_with_deletion_vector(tmp_path / "lake", table, [0, 7, 49_999])
    left = [row["id"] for row in rows_of(tmp_path / "lake")]
    # In the order of the file, so that every reading gives each row the same number.
    assert left == [i for i in range(50_000) if i not in (0, 7, 49_999)]
    assert rows_of(tmp_path / "lake", where=[("id", "<", 3)], columns=["tags"]) == [
        {"tags": ["t1"]},
        {"tags": ["t2"]},
    ]
    assert len(ids_of(tmp_path / "lake", table_version=0)) == 50_000


def test_mapped_columns_are_found_by_their_names(tmp_path: Path) -> None:
    mapped = {"delta.columnMapping.mode": "name"}
    write_deltalake(
        tmp_path / "lake", pa.table({"id": [1, 2], "x": ["a", None]}), configuration=mapped
    )
    assert rows_of(tmp_path / "lake") == [{"id": 1, "x": "a"}, {"id": 2, "x": None}]


def test_an_iceberg_table_is_read_as_its_snapshot(iceberg: Table, client: SpooledClient) -> None:
    first, *_, last = (entry.snapshot_id for entry in iceberg.history())
    assert ids_of(iceberg) == [4, 5, 6, 7, 8, 9, 100]
    assert rows_of(iceberg, where=[("id", ">", 8)], columns=["note", "title"]) == [
        {"note": "new", "title": "t"},
        {"note": None, "title": "n9"},
    ]
    assert rows_of(iceberg, table_version=first)[0] == {"id": 0, "name": "n0"}
    assert ids_of(iceberg, table_version="main") == ids_of(iceberg)
    assert ids_of(iceberg, table_version=dt.datetime.now(dt.timezone.utc)) == ids_of(iceberg)
    plan = client.plan_batch(iceberg, "q")
    assert (plan.table_version, plan.notes) == (last, (f"Iceberg table, snapshot {last}",))


def test_an_iceberg_table_is_named_by_its_metadata_file_or_its_catalog(
    iceberg: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/warehouse/catalog.db"
    monkeypatch.setattr(
        "pyiceberg.catalog._ENV_CONFIG.config",
        {"catalog": {"prod": {"type": "sql", "uri": uri}}},
    )
    file = iceberg.metadata_location
    for name in (file, file.removeprefix("file://"), "iceberg://prod/db.orders"):
        assert ids_of(name) == [4, 5, 6, 7, 8, 9, 100]
    assert "db.nope" in refused("iceberg://prod/db.nope")
    assert "must be iceberg://CATALOG/NAMESPACE.TABLE" in refused("iceberg://prod")
    # Which of its metadata files counts, the folder alone does not say.
    said = refused(iceberg.location().removeprefix("file://"))
    assert "only its catalog knows" in said
    assert file.removeprefix("file://") in said


def test_a_folder_whose_metadata_is_numbered_is_read_as_the_last_one(iceberg: Table) -> None:
    folder = Path(iceberg.location().removeprefix("file://"))
    for number, old in enumerate(sorted((folder / "metadata").glob("*.metadata.json"))):
        # As a file system without a catalog names them.
        old.rename(old.with_name(f"v{number + 8}.metadata.json"))
    assert ids_of(folder) == [4, 5, 6, 7, 8, 9, 100]


def test_deletes_of_an_iceberg_table_are_applied_or_refused(catalog: SqlCatalog) -> None:
    rows = pa.table({"id": pa.array(range(300_000), pa.int64())})
    table = catalog.create_table("db.t", schema=rows.schema)
    table.append(rows)
    delete_by_position(table, [0, 150_000, 299_999])
    left = [row["id"] for row in rows_of(catalog.load_table("db.t"))]
    assert left == [i for i in range(300_000) if i not in (0, 150_000, 299_999)]
    other = catalog.create_table("db.other", schema=rows.schema)
    other.append(rows.slice(0, 5))
    delete_by_position(other, [1], DataFileContent.EQUALITY_DELETES)
    assert "does not yet support equality deletes" in refused(catalog.load_table("db.other"))


def test_files_of_a_lake_table_are_refused_alone(
    delta: Path, iceberg: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = next(delta.rglob("*.parquet"))
    lake = f"within the Delta table '{delta}'"
    for inside in (file, file.parent, f"{delta}/**/*.parquet", f"{file.parent}/*.parquet"):
        assert lake in refused(inside)
    assert f"within the Delta table 'file://{delta}'" in refused(f"file://{delta}/**/*.parquet")
    # Also where the table is only one of several in a folder, or above the current one.
    assert lake in refused(f"{tmp_path}/**/*.parquet")
    assert "within the" in refused(tmp_path)
    data = Path(iceberg.location().removeprefix("file://")) / "data"
    assert "within the Iceberg table" in refused(data)
    monkeypatch.chdir(file.parent)
    assert lake in refused(file.name)
    assert lake in refused("*.parquet")
    pq.write_table(pa.table({"id": [1]}), tmp_path / "beside.parquet")
    assert ids_of(tmp_path / "beside.parquet") == [1]


def test_a_hudi_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trips" / ".hoodie").mkdir(parents=True)
    pq.write_table(pa.table({"id": [1]}), tmp_path / "trips" / "a.parquet")
    assert "is a Hudi table, and Hudi is not supported" in refused(tmp_path / "trips")
    assert "within the Hudi table" in refused(tmp_path / "trips" / "*.parquet")


def test_what_a_table_needs_is_said_by_name(
    delta: Path, iceberg: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("deltalake", "pyiceberg"):
        monkeypatch.setitem(sys.modules, module, None)
    assert "pip install 'spooled-pipelines[delta]'" in refused(delta)
    assert "pip install 'spooled-pipelines[iceberg]'" in refused(iceberg.metadata_location)
    assert "pip install 'spooled-pipelines[iceberg]'" in refused("iceberg://prod/db.orders")


def test_a_table_in_a_file_system_that_its_library_lacks_is_refused() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/lake/_delta_log/00000000000000000000.json", b"{}")
    memory.pipe("/lake/a.parquet", b"")
    assert "Open it and pass that: DeltaTable(uri" in refused("memory://lake")
    assert "within the Delta table" in refused("memory://lake/a.parquet")


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (-1, "must be a number"),
        (1.5, "must be a number"),
        (True, "must be a number"),
        ("", "must be a number"),
        (99, "has no version 99; its newest is 3"),
        ("main", "must be its number, or a time with a zone, got 'main'"),
        ("2024-01-01T00:00:00", "a time must have a zone"),
        ("2940-01-01T00:00:00Z", "the time must be past"),
    ],
)
def test_a_version_that_cannot_be_is_refused(delta: Path, version: Any, said: str) -> None:
    assert said in refused(delta, table_version=version)


def test_a_snapshot_that_is_not_there_is_refused(iceberg: Table) -> None:
    for version in (1, "nope", "2001-01-01T00:00:00Z"):
        assert "has no snapshot" in refused(iceberg, table_version=version)


def test_a_version_of_something_else_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1]}), tmp_path / "a.parquet")
    said = refused(tmp_path / "a.parquet", table_version=1)
    assert said.startswith("table_version is for Delta and Iceberg tables; data is the file")


_DIES = """
import os, signal, sys, spooled_pipelines
def killed(acknowledged, rows):
    if acknowledged:
        os.kill(os.getpid(), signal.SIGKILL)
with spooled_pipelines.connect(sys.argv[1]) as client:
    client.enqueue_batch(sys.argv[2], "q", key="id", name="nightly", progress=killed)
"""


def test_a_call_that_was_killed_is_finished_with_the_version_that_it_read(tmp_path: Path) -> None:
    folder, server = tmp_path / "lake", f"embedded:{tmp_path}/spooled.db"
    write_deltalake(folder, pa.table({"id": range(20_000), "x": ["old"] * 20_000}))
    died = subprocess.run([sys.executable, "-c", _DIES, server, str(folder)], check=False)
    assert died.returncode == -signal.SIGKILL
    # Meanwhile the table goes on: rows leave it, and others come.
    DeltaTable(folder).delete("id < 19000")
    write_deltalake(folder, pa.table({"id": [77_777], "x": ["new"]}), mode="append")
    with spooled_pipelines.connect(server) as client:
        batch = client.enqueue_batch(folder, "q", key="id", name="nightly", table_version=0)
        assert batch.duplicates > 0
        assert batch.created + batch.duplicates == batch.stats().total == 20_000


def test_the_log_says_which_version_is_read(
    delta: Path, client: SpooledClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "spooled_pipelines.batch"):
        client.plan_batch(delta, "q")
    assert any("Delta table, version 3" in record.getMessage() for record in caplog.records)


def test_the_shell_reads_a_version_and_says_which(delta: Path, tmp_path: Path) -> None:
    server = ("--address", f"embedded:{tmp_path}/shell.db")
    planned = command("plan", str(delta), "q", "--table-version", "1", *server)
    assert "Delta table, version 1" in planned.stdout
    sent = command("enqueue", str(delta), "q", "--table-version", "1", *server)
    assert "rows        6" in sent.stdout
    assert "Delta table, version 1" in sent.stdout
    refused_version = command("enqueue", str(delta), "q", "--table-version", "9", *server)
    assert "has no version 9; its newest is 3" in refused_version.stderr


def test_a_delta_table_says_the_same_with_and_without_a_filter(tmp_path: Path) -> None:
    odd = pa.table(
        {
            "id": range(4),
            "part": ["a", "b/c", "ü ?&#%", None],
            "day": [dt.date(2024, 2, 29), None, dt.date(1, 1, 1), dt.date(9999, 12, 31)],
            "bytes": [b"x", None, b"", b"\0"],
            "map": pa.array(
                [[("k", 1)], None, [], [("a", None)]], pa.map_(pa.string(), pa.int64())
            ),
            "object": [{"x": [1], "y": "a"}, None, {"x": None, "y": None}, {"x": [], "y": ""}],
            "price": [Decimal("1.10"), None, Decimal("-0.01"), Decimal("0.00")],
            "number": [1.5, None, float("inf"), -0.0],
        }
    )
    write_deltalake(tmp_path / "odd", odd, partition_by=["part", "day"])
    times = [dt.datetime(9999, 12, 31), dt.datetime(1500, 1, 1), dt.datetime(2024, 1, 1, 1, 2, 3)]  # noqa: DTZ001
    (tmp_path / "int96").mkdir()
    pq.write_table(
        pa.table({"id": range(3), "at": pa.array(times, pa.timestamp("us", "UTC"))}),
        tmp_path / "int96" / "a.parquet",
        use_deprecated_int96_timestamps=True,
    )
    convert_to_deltalake(tmp_path / "int96")
    for name, rows in (("odd", odd.to_pylist()), ("int96", None)):
        read = sorted(rows_of(tmp_path / name), key=lambda row: row["id"])
        filtered = rows_of(tmp_path / name, where=[("id", ">=", 0)])
        assert sorted(filtered, key=lambda row: row["id"]) == read
        assert rows in (read, None)
    assert [row["at"].replace(tzinfo=None) for row in read] == times


def test_a_call_that_breaks_off_says_with_which_version_it_goes_on(
    delta: Path, client: SpooledClient
) -> None:
    def interrupted(acknowledged: int, _: int) -> None:
        if acknowledged:
            raise RuntimeError("the connection broke")

    with pytest.raises(RuntimeError) as caught:
        client.enqueue_batch(delta, "q", table_version=2, progress=interrupted)
    if sys.version_info >= (3, 11):
        (note,) = caught.value.__notes__
        assert "Repeat the same call with table_version=2 to resume" in note
