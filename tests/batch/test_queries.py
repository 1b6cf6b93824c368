"""What a query gives is read as it comes, from each driver in its own way."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any

import adbc_driver_postgresql.dbapi
import adbc_driver_sqlite.dbapi
import duckdb
import pandas as pd
import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import sqlalchemy

from spooled_pipelines import connect
from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.batch.source.open import BATCH_ROWS, open_source
from spooled_pipelines.batch.source.row_filter import parse_scan
from spooled_pipelines.errors import InvalidArgumentError, SourceError
from tests.support.postgres import Cluster
from tests.support.server_process import ServerProcess

ROWS = 25_000
QUERY = "SELECT n, n * 0.5 AS half, text FROM rows ORDER BY n"


def rows_of(data: Any = None, columns: Any = None, where: Any = None, **query: Any) -> list[Any]:
    source = open_source(data, parse_scan(RowOptions(columns=columns, where=where)), **query)
    return [row for batch in source.batches for row in batch.to_pylist()]


def refused(data: Any = None, **arguments: Any) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        rows_of(data, **arguments)
    return str(caught.value)


@pytest.fixture(scope="module")
def postgres_url(cluster: Cluster) -> str:
    url = cluster.empty_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE rows (n bigint, text text)")
        connection.execute(
            "INSERT INTO rows SELECT i, CASE WHEN i % 7 > 0 THEN 'row ' || i END "
            f"FROM generate_series(0, {ROWS - 1}) AS i"
        )
    return url


@pytest.fixture(scope="module")
def sqlite_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("sql") / "rows.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE rows (n INTEGER, text TEXT)")
        rows = ((i, f"row {i}" if i % 7 else None) for i in range(ROWS))
        connection.executemany("INSERT INTO rows VALUES (?, ?)", rows)
        connection.commit()
    return path


def _duckdb(sqlite_path: str, _: str) -> Any:
    connection = duckdb.connect()
    text = "CASE WHEN range % 7 > 0 THEN 'row ' || range END"
    connection.execute(f"CREATE TABLE rows AS SELECT range AS n, {text} AS text FROM range({ROWS})")
    return connection


CONNECTIONS: dict[str, Callable[[str, str], Any]] = {
    "sqlite3": lambda path, _: sqlite3.connect(path, check_same_thread=False),
    "adbc sqlite": lambda path, _: adbc_driver_sqlite.dbapi.connect(path),
    "duckdb": _duckdb,
    "psycopg": lambda _, url: psycopg.connect(url),
    "psycopg autocommit": lambda _, url: psycopg.connect(url, autocommit=True),
    "adbc postgresql": lambda _, url: adbc_driver_postgresql.dbapi.connect(
        url.replace("postgres:@", "postgres@")
    ),
}


@pytest.fixture(params=sorted(CONNECTIONS))
def connection(
    request: pytest.FixtureRequest, sqlite_path: str, postgres_url: str
) -> Iterator[Any]:
    with closing(CONNECTIONS[request.param](sqlite_path, postgres_url)) as made:
        yield made


def test_a_query_is_a_table(connection: Any) -> None:
    rows = rows_of(sql=QUERY, connection=connection)
    assert [row["n"] for row in rows] == list(range(ROWS))
    assert [rows[i]["text"] for i in (0, 1)] == [None, "row 1"]
    assert float(rows[3]["half"]) == 1.5
    # And the connection can be used for another one.
    assert len(rows_of(sql=f"{QUERY};", connection=connection)) == ROWS


def test_rows_and_columns_of_a_query_are_selected(connection: Any) -> None:
    rows = rows_of(sql=QUERY, connection=connection, where=[("n", "in", [3, 4])], columns=["n"])
    assert rows == [{"n": 3}, {"n": 4}]


def test_parameters_are_bound_and_never_become_a_part_of_the_query(
    connection: Any, request: pytest.FixtureRequest
) -> None:
    driver = request.node.callspec.params["connection"]
    placeholder = "$1" if driver == "adbc postgresql" else "%s" if "psycopg" in driver else "?"
    sql = f"SELECT n, text FROM rows WHERE text = {placeholder} ORDER BY n"
    assert rows_of(sql=sql, connection=connection, parameters=["row 8"]) == [
        {"n": 8, "text": "row 8"}
    ]
    injected = "x' OR '1' = '1"
    assert rows_of(sql=sql, connection=connection, parameters=[injected]) == []


@pytest.mark.parametrize("of", ["engine", "connection"])
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_sqlalchemy_s_engines_and_connections_are_read(
    database: str, of: str, sqlite_path: str, postgres_url: str
) -> None:
    is_sqlite = database == "sqlite"
    url = f"sqlite:///{sqlite_path}" if is_sqlite else "postgresql+psycopg://"
    creator = None if is_sqlite else lambda: psycopg.connect(postgres_url)
    made = {} if creator is None else {"creator": creator}
    engine = sqlalchemy.create_engine(url, **made)
    with closing(engine.connect()) as opened:
        source = engine if of == "engine" else opened
        assert len(rows_of(sql=QUERY, connection=source)) == ROWS
        sql = "SELECT n, text FROM rows WHERE text = :wanted ORDER BY n"
        one = [{"n": 8, "text": "row 8"}]
        assert rows_of(sql=sql, connection=source, parameters={"wanted": "row 8"}) == one
        driver_s = sql.replace(":wanted", "?" if is_sqlite else "%s")
        assert rows_of(sql=driver_s, connection=source, parameters=["row 8"]) == one
        # What is given stays open.
        assert not opened.closed
    engine.dispose()


def test_a_cursor_that_has_run_its_query_is_read(connection: Any) -> None:
    with closing(connection.cursor()) as cursor:
        cursor.execute(QUERY)
        assert len(rows_of(cursor)) == ROWS


def test_a_query_that_the_database_refuses_is_named(connection: Any) -> None:
    with pytest.raises(SourceError, match=r"the query cannot be read: .*nothing_like_it"):
        rows_of(sql="SELECT * FROM nothing_like_it", connection=connection)


def test_a_query_that_fails_on_its_way_says_behind_which_row(postgres_url: str) -> None:
    failing = f"SELECT 1 / (i - {3 * BATCH_ROWS + 5}) AS x FROM generate_series(0, 1000000) AS i"
    with (
        psycopg.connect(postgres_url) as connection,
        pytest.raises(SourceError, match=r"after row 29999: division by zero.*Nothing was sent"),
    ):
        rows_of(sql=failing, connection=connection)


def test_a_server_keeps_what_is_not_read_yet(postgres_url: str) -> None:
    endless = "SELECT generate_series(1, 1000000000) AS i, repeat('x', 1000) AS text"
    with psycopg.connect(postgres_url) as connection:
        batches = iter(open_source(None, sql=endless, connection=connection).batches)
        assert next(batches).num_rows <= BATCH_ROWS
        batches.close()  # type: ignore[attr-defined]
        connection.cancel()


def test_months_have_no_length_and_json_keeps_its_numbers(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        for text in ("1 month 2 days", "1 year", "infinity"):
            for value in (f"interval '{text}'", f"ARRAY[interval '{text}']"):
                said = refused(sql=f"SELECT {value} AS a", connection=connection)
                assert "no fixed length" in said
                connection.rollback()
        (row,) = rows_of(sql="SELECT interval '40 days 1.5 s' AS a", connection=connection)
        assert row["a"] == dt.timedelta(days=40, seconds=1.5)
        assert "one name twice" in refused(
            sql="""SELECT '{"x": 1, "x": 2}'::json AS a""", connection=connection
        )
        connection.rollback()
        exact = "SELECT '{\"x\": 0.12345678901234567890}'::jsonb AS a"
        (row,) = rows_of(sql=exact, connection=connection)
        assert row["a"] == '{"x":0.12345678901234567890}'
        assert "'a' is an interval" in refused(connection.execute("SELECT interval '1 month' AS a"))
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(postgres_url),
        poolclass=sqlalchemy.NullPool,
    )
    assert "'a' is an interval" in refused(sql="SELECT interval '1 s' AS a", connection=engine)
    engine.dispose()


def test_values_of_a_database_are_what_they_are(postgres_url: str) -> None:
    query = (
        "SELECT 1.50::numeric(10, 2) AS d, timestamptz '2013-01-01 05:00+02' AS t, "
        "date '2013-01-01' AS day, '{\"a\": [1]}'::jsonb AS j, ARRAY[1, 2] AS l, true AS b"
    )
    with psycopg.connect(postgres_url) as connection:
        (row,) = rows_of(sql=query, connection=connection)
    assert row["d"] == Decimal("1.50")
    assert row["t"].astimezone(dt.timezone.utc).hour == 3
    assert (row["day"], row["j"], row["l"], row["b"]) == (
        dt.date(2013, 1, 1),
        {"a": [1]},
        [1, 2],
        True,
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"sql": "SELECT 1"}, "sql needs connection="),
        ({"connection": 5}, "pass data, or sql="),
        ({"data": "t.csv", "sql": "SELECT 1", "connection": 5}, "not some of both"),
        ({"sql": " ", "connection": 5}, "sql must be the text of a query"),
        ({"sql": "SELECT 1", "connection": 5}, "DuckDB or SQLAlchemy connection, got int"),
        ({"sql": "SELECT 1", "connection": 5, "where": "n > 1"}, "in the query or the frame"),
    ],
)
def test_a_query_that_is_none_is_refused(arguments: dict[str, Any], said: str) -> None:
    assert said in refused(**arguments)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("UHUGEINT", "340282366920938463463374607431768211455"),
        ("BIT", "'0101'"),
        ("VARIANT", "1"),
        ("TIMETZ", "'05:00:00+01'"),
    ],
)
def test_what_duckdb_changes_on_its_way_to_arrow_is_refused_by_its_column(
    kind: str, value: str
) -> None:
    connection = duckdb.connect()
    for query in (f"SELECT {value}::{kind} AS a", f"SELECT [{{'x': {value}::{kind}}}] AS a"):
        assert "column 'a' is " in refused(connection.sql(query))
        assert "CAST" in refused(sql=query, connection=connection)


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ("INTERVAL 1 MONTH", "CAST"),
        ("[INTERVAL 1 MONTH]", "CAST"),
        ("'2020-01-01 00:00:00.123456789'::TIMESTAMP_NS", "sql="),
        ("{'t': '01:02:03.123456789'::TIME_NS}", "sql="),
        ("'infinity'::TIMESTAMP", "sql="),
        ("'-infinity'::TIMESTAMPTZ", "sql="),
        ("'infinity'::DATE", "sql="),
    ],
)
def test_what_a_cursor_of_duckdb_changes_is_refused_by_its_column(value: str, remedy: str) -> None:
    said = refused(duckdb.connect().execute(f"SELECT {value} AS a"))
    assert "column 'a'" in said
    assert remedy in said


def test_rows_that_are_not_one_value_for_each_column_are_refused() -> None:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    two = "SELECT 'x' AS a, 'y' AS b"
    factories: list[tuple[Any, str]] = [
        (lambda _, row: row[0] * 2, "of type str, is one value"),
        (lambda _, row: len(row), "of type int, is one value"),
        (lambda _, row: {"a": row[0]}, "has 1 values, and the result 2 columns"),
    ]
    for factory, said in factories:
        connection.row_factory = factory
        assert said in refused(sql=two, connection=connection)
    connection.row_factory = lambda _, row: dict(zip("ab", row, strict=True))
    assert rows_of(sql=two, connection=connection) == [{"a": "x", "b": "y"}]


def test_what_gives_no_rows_is_no_query(sqlite_path: str) -> None:
    with closing(sqlite3.connect(sqlite_path)) as connection:
        assert "not a SELECT" in refused(sql="PRAGMA user_version = 1", connection=connection)
        nothing = "SELECT * FROM rows WHERE n < 0"
        assert rows_of(sql=nothing, connection=connection) == []
        assert "it did not run yet" in refused(connection.cursor())


def test_a_query_becomes_jobs(server: ServerProcess, sqlite_path: str, queue: str) -> None:
    with (
        connect(server.address, api_key=server.api_key) as client,
        closing(sqlite3.connect(sqlite_path)) as connection,
    ):
        batch = client.enqueue_batch(
            None, queue, sql=QUERY, connection=connection, where=[("n", "<", 100)], key="n"
        )
        assert (batch.rows, batch.created) == (100, 100)
        again = client.enqueue_batch(None, queue, sql=QUERY, connection=connection, key="n")
        assert (again.created, again.duplicates) == (ROWS - 100, 100)


def test_a_lazy_frame_computes_what_is_selected() -> None:
    lazy = pl.LazyFrame({"a": range(50_000), "b": ["x"] * 50_000})
    seen: list[list[str]] = []

    def look(frame: pl.DataFrame) -> pl.DataFrame:
        seen.append(frame.columns)
        return frame

    assert len(rows_of(lazy)) == 50_000
    watched = lazy.map_batches(look, projection_pushdown=True)
    assert rows_of(watched, columns=["a"])[:2] == [{"a": 0}, {"a": 1}]
    assert seen[-1] == ["a"]
    assert rows_of(lazy, columns=["a"], where=[("b", "==", "x"), ("a", "<", 1)]) == [{"a": 0}]
    assert rows_of(lazy.collect(), where=[("a", "<", 1)]) == [{"a": 0, "b": "x"}]
    assert "no column 'c'" in refused(lazy, columns=["c"])
    for other_language in ("a < 1", pl.col("a") < 1):
        assert "in the query or the frame" in refused(lazy, where=other_language)


def test_a_relation_is_computed_piece_by_piece() -> None:
    connection = duckdb.connect()
    relation = connection.sql('SELECT range AS "a b", range * 2 AS c FROM range(10000000)')
    source = open_source(relation, parse_scan(RowOptions(where=[("c", ">", 10)])))
    assert next(iter(source.batches)).slice(0, 1).to_pylist() == [{"a b": 6, "c": 12}]
    small = duckdb.connect().sql('SELECT range AS "a b", range * 2 AS c FROM range(5)')
    assert rows_of(small, columns=["a b"], where=[("c", "==", 4)]) == [{"a b": 2}]
    assert rows_of(small, columns=["c"], where=pc.field("a b") == 1) == [{"c": 2}]
    assert "no column 'x'" in refused(small, columns=["x"])


class _Interchange:
    """Offers the protocol and nothing else."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __dataframe__(self, **settings: Any) -> Any:
        return self._table.__dataframe__(**settings)


def test_what_offers_the_interchange_protocol_is_read() -> None:
    chunk = pa.table({"a": [1, 2], "b": ["x", None]})
    table = pa.concat_tables([chunk, chunk])
    assert rows_of(_Interchange(table)) == table.to_pylist()
    assert rows_of(_Interchange(table), columns=["a"], where=[("b", "==", "x")]) == [{"a": 1}] * 2


def test_an_index_is_read_where_it_is_asked_for() -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="id"))
    source = open_source(frame, parse_scan(RowOptions(index=True)))
    assert [row for batch in source.batches for row in batch.to_pylist()] == [
        {"id": "x", "a": 1},
        {"id": "y", "a": 2},
    ]
    levels = frame.assign(b=1).set_index("b", append=True)
    assert "index=True" in refused(levels)
    both = open_source(levels, parse_scan(RowOptions(columns=["b", "id"], index=True)))
    assert next(both.batches).to_pylist()[1] == {"b": 1, "id": "y"}
    with pytest.raises(InvalidArgumentError, match="has the name of a column"):
        open_source(frame.rename_axis("a"), parse_scan(RowOptions(index=True)))
    with pytest.raises(InvalidArgumentError, match="is for a pandas DataFrame"):
        open_source([{"a": 1}], parse_scan(RowOptions(index=True)))


def test_what_is_not_asked_for_need_not_be_readable() -> None:
    frame = pd.DataFrame({"a": [1, 2], "odd": [object(), 5]})
    assert rows_of(frame, columns=["a"]) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        ({"columns": "a"}, "must be a list"),
        ({"columns": []}, "names no column"),
        ({"columns": ["a", "a"]}, "names 'a' twice"),
        ({"columns": [1]}, "got 1"),
        ({"where": [("a", "~", 1)]}, "where must be (column, operator, value)"),
        ({"where": 5}, "where must be (column, operator, value)"),
        ({"where": pl.col("a") > 1}, "in the query or the frame"),
    ],
)
def test_a_selection_that_cannot_be_meant_is_refused(selection: Any, said: str) -> None:
    assert said in refused(pa.table({"a": [1]}), **selection)
