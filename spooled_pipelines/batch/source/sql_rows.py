"""Queries and cursors: rows as the database gives them, piece by piece.

Through ADBC and DuckDB as Arrow, from other drivers (DB-API) as Python values. Where a driver
would fetch the whole result at once by itself it is asked for a cursor on the server.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from spooled_pipelines.batch.source import python_rows
from spooled_pipelines.batch.source.frames import from_duckdb
from spooled_pipelines.batch.source.read_errors import failed
from spooled_pipelines.batch.source.row_filter import Selection
from spooled_pipelines.errors import InvalidArgumentError, SpooledError

_WHAT = "the query"
# Drivers of PostgreSQL read all rows into the client, unless the cursor has a name.
_NAMED = ("psycopg", "psycopg2")


def open_query(
    sql: str, connection: Any, selection: Selection, rows: int
) -> tuple[Any, Iterator[Any]]:
    """Run a query and read what it gives.

    Raises:
        InvalidArgumentError: there is no connection, or one of a kind that is not known.
        SourceError: the database refused or failed.
    """
    if not isinstance(sql, str) or not sql.strip():
        raise InvalidArgumentError(f"sql={sql!r}: pass the text of a query.")
    if connection is None:
        raise InvalidArgumentError("sql needs connection=: an ADBC, DB-API or DuckDB connection.")
    if _is_duckdb(connection):
        relation = _asked(lambda: connection.cursor().sql(sql))
        if relation is None:
            raise InvalidArgumentError(f"{_WHAT} gives no rows: it is no SELECT.")
        return from_duckdb(relation, selection, rows)
    if selection.text is not None:
        # Behind a line break: the query may end in a comment.
        inner = sql.strip().rstrip(";")
        sql = f"SELECT * FROM (\n{inner}\n) AS spooled_rows WHERE {selection.text}"  # noqa: S608
    if hasattr(connection, "exec_driver_sql") or hasattr(connection, "raw_connection"):
        raise InvalidArgumentError(
            "connection is SQLAlchemy's: pass what is below it, engine.raw_connection() or "
            "connection.connection.driver_connection."
        )
    if not callable(getattr(connection, "cursor", None)):
        raise InvalidArgumentError(
            f"connection is a {type(connection).__name__}, and has to be an ADBC, DB-API or DuckDB "
            "connection."
        )
    cursor = _cursor(connection)
    try:
        cursor = _asked(lambda: cursor.execute(sql)) or cursor
        return _read(cursor, selection, rows, owned=True)
    except BaseException:
        _close(cursor)
        raise


def is_cursor(data: Any) -> bool:
    """Whether this is a cursor that rows can be fetched from."""
    return callable(getattr(data, "fetchmany", None)) and hasattr(data, "description")


def open_cursor(cursor: Any, selection: Selection, rows: int) -> tuple[Any, Iterator[Any]]:
    """What a cursor gives that has run its query. It stays open: who made it closes it."""
    if selection.text is not None:
        selection.arrow_only("a cursor that has run its query")
    return _read(cursor, selection, rows, owned=False)


def _cursor(connection: Any) -> Any:
    module = type(connection).__module__.split(".")[0]
    if "Async" in type(connection).__name__:
        raise InvalidArgumentError(
            f"connection is a {type(connection).__name__}: pass a blocking one, which is read in "
            "a thread of its own where the client is asyncio's."
        )
    if module in _NAMED:
        # Outside of a transaction only a cursor with hold lives on.
        hold = bool(getattr(connection, "autocommit", False))
        return _asked(lambda: connection.cursor(name="spooled_rows", withhold=hold))
    streaming = getattr(sys.modules.get(f"{module}.cursors"), "SSCursor", None)
    if streaming is not None:
        return _asked(lambda: connection.cursor(streaming))
    return _asked(connection.cursor)


def _read(
    cursor: Any, selection: Selection, rows: int, *, owned: bool
) -> tuple[Any, Iterator[Any]]:
    if selection.frame is not None:
        selection.arrow_only("a query")
    reader = _arrow_reader(cursor)
    if reader is not None:
        return selection.of(reader.schema, _arrow_batches(reader, cursor, owned))
    if cursor.description is None and not hasattr(cursor, "fetchmany"):
        raise InvalidArgumentError(f"{_WHAT} gives no rows.")
    first = _asked(lambda: cursor.fetchmany(rows))
    if cursor.description is None:
        raise InvalidArgumentError(f"{_WHAT} gives no rows: it is no SELECT, or was not run yet.")
    names = [column[0] for column in cursor.description]
    chunks = _chunks(cursor, first, rows, owned)
    schema, batches = python_rows.from_chunks(names, chunks)
    return selection.of(schema, batches)


def _arrow_reader(cursor: Any) -> Any:
    """A RecordBatchReader, from drivers that speak Arrow."""
    if _is_duckdb(cursor):
        # Of what was run on a connection it would make a copy first.
        return None
    fetch = getattr(cursor, "fetch_record_batch", None)
    return _asked(fetch) if callable(fetch) else None


def _is_duckdb(connection: Any) -> bool:
    return type(connection).__module__.split(".")[0] in ("duckdb", "_duckdb")


def _arrow_batches(reader: Any, cursor: Any, owned: bool) -> Iterator[Any]:
    row = 0
    try:
        while True:
            batch = _asked(lambda: next(reader, None), row)
            if batch is None:
                return
            yield batch
            row += batch.num_rows
    finally:
        if owned:
            _close(cursor)


def _chunks(cursor: Any, first: Any, rows: int, owned: bool) -> Iterator[list[Any]]:
    row = 0
    chunk = first
    try:
        while chunk:
            columns = [list(column) for column in zip(*map(_values, chunk), strict=True)]
            row += len(chunk)
            yield columns
            chunk = _asked(lambda: cursor.fetchmany(rows), row)
    finally:
        if owned:
            _close(cursor)


def _values(row: Any) -> Any:
    # Some cursors give dicts.
    return row.values() if isinstance(row, dict) else row


def _asked(ask: Callable[[], Any], row: int = 0) -> Any:
    """What the driver answers; what it raises (each has errors of its own) as one of ours."""
    try:
        return ask()
    except SpooledError:
        raise
    except Exception as error:
        raise failed(_WHAT, row, error) from error


def _close(cursor: Any) -> None:
    close = getattr(cursor, "close", None)
    if callable(close):
        close()
