"""Opening what an operator is given to enqueue: an XCom, a path, a callable's table, a query."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from airflow.sdk import Asset, BaseHook, ObjectStoragePath, XComArg
from airflow.sdk.bases.decorator import determine_kwargs
from airflow.sdk.execution_time.lazy_sequence import LazyXComSequence

from spooled_pipelines.airflow.opaque import describe, is_function, unwrap
from spooled_pipelines.errors import InvalidArgumentError

if TYPE_CHECKING:
    import pyarrow as pa
    from airflow.sdk import Context

    from spooled_pipelines.batch.options import SqlParameters

_END = object()


def check_source(data: object, sql: str | None, sql_conn_id: str | None) -> None:
    """Raise InvalidArgumentError unless the arguments of an operator name one source."""
    if (data is None) == (sql is None):
        raise InvalidArgumentError(
            "EnqueueBatchOperator takes data=, or sql= and sql_conn_id=: give one of them"
        )
    if (sql is None) != (sql_conn_id is None):
        raise InvalidArgumentError(
            "sql= and sql_conn_id= go together: the query, and the connection to run it on"
        )


@contextmanager
def open_query(
    sql: str, sql_conn_id: str, parameters: SqlParameters | None
) -> Iterator[dict[str, Any]]:
    """Connect to a database; yield the arguments of `SpooledClient.enqueue_batch` for a query.

    Raises:
        InvalidArgumentError: the connection is not a database's.
    """
    hook = BaseHook.get_hook(sql_conn_id)
    if not hasattr(hook, "get_records"):
        raise InvalidArgumentError(
            f"the Airflow connection {sql_conn_id!r} is not a database's: its hook, "
            f"{type(hook).__name__}, runs no SQL"
        )
    with closing(hook.get_conn()) as connection:
        yield {"data": None, "sql": sql, "connection": connection, "parameters": parameters}


def open_data(data: Any, arguments: Callable[[], Mapping[str, Any]], context: Context) -> Any:
    """Return the table, or the path of one, that the data stands for.

    Args:
        data: an XCom reference, which is pulled; a callable, which is called with those of its
            arguments and of the context that its signature names; or the table or path itself.
        arguments: returns the callable's own arguments, rendered.
        context: the task's.

    Raises:
        InvalidArgumentError: the result is None.
    """
    value = unwrap(data)
    described = describe(value)
    if isinstance(value, XComArg):
        value = value.resolve(context)
    elif is_function(value):
        value = value(**determine_kwargs(value, (), {**context, **arguments()}))
    if isinstance(value, Asset):
        value = value.uri
    if value is None:
        raise InvalidArgumentError(
            f"data={described} gave None instead of a table. Return a table from it, or if it is "
            "another task's output, see whether that task ran and pushed one."
        )
    if isinstance(value, (str, os.PathLike, ObjectStoragePath)):
        return _path(value)
    return _rows_of_tables(value)


def _rows_of_tables(value: Any) -> Any:
    """Return the rows of several tables as one table; anything else as it is."""
    if not isinstance(value, (Iterator, list, tuple, LazyXComSequence)):
        return value
    items = iter(value)
    first = next(items, _END)
    if not _is_table(first):
        # A list can be read again, and tells more about its columns.
        return chain([first], items) if isinstance(value, Iterator) and first is not _END else value
    return _record_batches(chain([first], items))


def _record_batches(tables: Iterable[Any]) -> Iterator[pa.RecordBatch]:
    from spooled_pipelines.batch.source.open import open_source

    for table in tables:
        # A part of a table may well be empty, and then not even have columns.
        if not hasattr(table, "__len__") or len(table):
            yield from open_source(table).batches


def _is_table(value: Any) -> bool:
    return isinstance(value, list) or hasattr(value, "__arrow_c_stream__")


def _path(location: Any) -> Any:
    if isinstance(location, ObjectStoragePath) and location.protocol not in ("", "file"):
        # It brings its file system, with what its connection holds.
        return location
    # Airflow writes paths of this machine as URIs, too.
    text = str(location)
    parts = urlsplit(text)
    return url2pathname(parts.path) if parts.scheme == "file" else text
