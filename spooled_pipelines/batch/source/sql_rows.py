"""Queries and cursors: rows as the database gives them, piece by piece.

Through ADBC and DuckDB as Arrow, from other drivers (DB-API) as Python values. Where a driver
would fetch the whole result at once by itself it is asked for a cursor on the server.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeGuard, TypeVar

import pyarrow as pa

from spooled_pipelines.batch.options.row_options import SqlParameters
from spooled_pipelines.batch.source import duckdb_rows, psycopg_rows, python_rows
from spooled_pipelines.batch.source.read_errors import read_error
from spooled_pipelines.batch.source.row_filter import Opened, Scan
from spooled_pipelines.errors import InvalidArgumentError, SpooledError

_WHAT = "the query"
# Drivers of PostgreSQL read all rows into the client, unless the cursor has a name.
_NAMED = ("psycopg", "psycopg2")
_T = TypeVar("_T")


class Cursor(Protocol):
    """What is read of a cursor of the Python Database API."""

    @property
    def description(self) -> Sequence[Sequence[Any]] | None: ...

    def fetchmany(self, size: int, /) -> Sequence[Any]: ...


def open_query(
    sql: str, connection: Any, parameters: SqlParameters | None, scan: Scan, rows: int
) -> Opened:
    """Run a query, with its parameters bound by the driver, and open its result.

    Raises:
        InvalidArgumentError: there is no connection, or one of an unknown kind.
        SourceError: the database refused or failed.
    """
    if not isinstance(sql, str) or not sql.strip():
        raise InvalidArgumentError(f"sql must be the text of a query, got {sql!r}.")
    if connection is None:
        raise InvalidArgumentError(
            "sql needs connection=: an ADBC, DB-API, DuckDB or SQLAlchemy connection."
        )
    if _is_duckdb(connection):
        relation = _call_driver(lambda: connection.cursor().sql(sql, params=parameters))
        if relation is None:
            raise InvalidArgumentError(f"{_WHAT} gives no rows: it is not a SELECT.")
        return duckdb_rows.from_relation(relation, scan, rows)
    if hasattr(connection, "exec_driver_sql") or hasattr(connection, "raw_connection"):
        _refuse_async(connection)
        result = _call_driver(lambda: _SqlAlchemyResult(sql, connection, parameters))
        return _open_result(result, scan, rows, owned=True)
    if not callable(getattr(connection, "cursor", None)):
        raise InvalidArgumentError(
            "connection must be an ADBC, DB-API, DuckDB or SQLAlchemy connection, got "
            f"{type(connection).__name__}."
        )
    cursor = _make_cursor(connection)
    # Some drivers look for placeholders wherever there are parameters, even if there are none.
    bound = () if parameters is None else (parameters,)
    try:
        cursor = _call_driver(lambda: cursor.execute(sql, *bound)) or cursor
        return _open_result(cursor, scan, rows, owned=True)
    except BaseException:
        _close(cursor)
        raise


class _SqlAlchemyResult:
    """The result of a query of a SQLAlchemy engine or connection, as a cursor.

    Parameters are those of SQLAlchemy's `text`: a mapping for `:name`. A sequence of them goes to
    the driver as it is, with the driver's own placeholders.
    """

    def __init__(self, sql: str, connection: Any, parameters: SqlParameters | None) -> None:
        from sqlalchemy import text

        # Of an engine the connection is ours, and goes with the result.
        is_engine = not hasattr(connection, "exec_driver_sql")
        self._connection = connection.connect() if is_engine else None
        options = {"stream_results": True}
        try:
            if parameters is None or isinstance(parameters, Mapping):
                self._result = (self._connection or connection).execute(
                    text(sql), parameters, execution_options=options
                )
            else:
                self._result = (self._connection or connection).exec_driver_sql(
                    sql, tuple(parameters), execution_options=options
                )
        except BaseException:
            self.close()
            raise

    @property
    def description(self) -> Sequence[Sequence[Any]] | None:
        if not self._result.returns_rows:
            return None
        return [(name,) for name in list(self._result.keys())]

    @property
    def driver_cursor(self) -> Any:
        """The cursor of the driver below SQLAlchemy."""
        return self._result.cursor

    def fetchmany(self, size: int, /) -> Sequence[Any]:
        rows: Sequence[Any] = self._result.fetchmany(size) if self._result.returns_rows else []
        return rows

    def close(self) -> None:
        result = getattr(self, "_result", None)
        if result is not None:
            result.close()
        if self._connection is not None:
            self._connection.close()


def is_cursor(data: object) -> TypeGuard[Cursor]:
    """Return whether this is a cursor that rows can be fetched from."""
    return callable(getattr(data, "fetchmany", None)) and hasattr(data, "description")


def open_cursor(cursor: Cursor, scan: Scan, rows: int) -> Opened:
    """Open the result of a cursor that has run its query. It stays open: the caller closes it."""
    return _open_result(cursor, scan, rows, owned=False)


def _refuse_async(connection: object) -> None:
    if "Async" in type(connection).__name__:
        raise InvalidArgumentError(
            f"connection must be a blocking one, got {type(connection).__name__}. It is read in a "
            "thread of its own where the client is asyncio's."
        )


def _make_cursor(connection: Any) -> Any:
    module = _module_of(connection)
    _refuse_async(connection)
    if module in _NAMED:
        # Outside of a transaction only a cursor with hold lives on.
        hold = bool(getattr(connection, "autocommit", False))
        cursor = _call_driver(lambda: connection.cursor(name="spooled_rows", withhold=hold))
        if module == "psycopg":
            psycopg_rows.read_exactly(cursor)
        return cursor
    streaming = getattr(sys.modules.get(f"{module}.cursors"), "SSCursor", None)
    if streaming is not None:
        return _call_driver(lambda: connection.cursor(streaming))
    return _call_driver(connection.cursor)


def _open_result(cursor: Cursor, scan: Scan, rows: int, *, owned: bool) -> Opened:
    reader = _arrow_reader(cursor)
    if reader is not None:
        return scan.apply(reader.schema, _arrow_batches(reader, cursor, owned))
    if cursor.description is None and not hasattr(cursor, "fetchmany"):
        raise InvalidArgumentError(f"{_WHAT} gives no rows.")
    # SQLAlchemy lets go of it once all rows are read.
    driver_cursor = getattr(cursor, "driver_cursor", cursor)
    described = driver_cursor.description
    first = _call_driver(lambda: cursor.fetchmany(rows))
    if cursor.description is None:
        raise InvalidArgumentError(
            f"{_WHAT} gives no rows: it is not a SELECT, or it did not run yet."
        )
    names = [column[0] for column in cursor.description]
    if _is_duckdb(cursor):
        duckdb_rows.check_cursor(cursor.description)
    elif _module_of(driver_cursor) in _NAMED and not (owned and _module_of(cursor) == "psycopg"):
        psycopg_rows.refuse_intervals(described or driver_cursor.description)
    chunks = _chunks(cursor, names, first, rows, owned)
    schema, batches = python_rows.from_chunks(names, chunks)
    return scan.apply(schema, batches)


def _arrow_reader(cursor: Cursor) -> pa.RecordBatchReader | None:
    """Return a reader, from drivers that speak Arrow."""
    if _is_duckdb(cursor):
        # It would first make a copy of the result of a query that ran on a connection.
        return None
    fetch = getattr(cursor, "fetch_record_batch", None)
    return _call_driver(fetch) if callable(fetch) else None


def _is_duckdb(connection: object) -> bool:
    return _module_of(connection) in ("duckdb", "_duckdb")


def _module_of(value: object) -> str:
    return type(value).__module__.split(".")[0]


def _arrow_batches(
    reader: pa.RecordBatchReader, cursor: Cursor, owned: bool
) -> Iterator[pa.RecordBatch]:
    row = 0
    try:
        while True:
            record_batch = _call_driver(lambda: next(reader, None), row)
            if record_batch is None:
                return
            yield record_batch
            row += record_batch.num_rows
    finally:
        if owned:
            _close(cursor)


def _chunks(
    cursor: Cursor, names: list[str], first: Sequence[Any], rows: int, owned: bool
) -> Iterator[list[python_rows.Column]]:
    row = 0
    chunk = first
    try:
        while chunk:
            values = [_values(each, len(names)) for each in chunk]
            columns = [list(column) for column in zip(*values, strict=True)]
            if _is_duckdb(cursor):
                duckdb_rows.check_values(names, columns, row)
            row += len(chunk)
            yield columns
            chunk = _call_driver(lambda: cursor.fetchmany(rows), row)
    finally:
        if owned:
            _close(cursor)


def _values(row: object, count: int) -> Iterable[Any]:
    # Some cursors give dicts.
    values = row.values() if isinstance(row, Mapping) else row
    if isinstance(row, (str, bytes)) or not isinstance(values, Iterable):
        shown = "is one value"
    elif len(found := list(values)) == count:
        return found
    else:
        shown = f"has {len(found)} values, and the result {count} columns"
    raise InvalidArgumentError(
        f"{_WHAT}: a row of it, of type {type(row).__name__}, {shown}. Leave the connection's row "
        "factory out, and give each column a name of its own. Nothing was sent."
    )


def _call_driver(call: Callable[[], _T], row: int = 0) -> _T:
    """Call a driver; its errors (each driver has its own) are raised as one of ours."""
    try:
        return call()
    except SpooledError:
        raise
    except Exception as error:
        raise read_error(_WHAT, row, error) from error


def _close(cursor: object) -> None:
    close = getattr(cursor, "close", None)
    if callable(close):
        close()
