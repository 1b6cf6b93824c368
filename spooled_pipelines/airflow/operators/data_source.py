"""Opening what an operator is given to enqueue: an XCom, a path, a callable's table, a query."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import url2pathname

from airflow.sdk import Asset, ObjectStoragePath
from airflow.sdk.definitions._internal.mixins import ResolveMixin

from spooled_pipelines.airflow.arguments.opaque import Opaque, describe, is_function, unwrap
from spooled_pipelines.airflow.platform.versions import BaseHook, determine_kwargs
from spooled_pipelines.errors import InvalidArgumentError

if TYPE_CHECKING:
    import pyarrow as pa
    from airflow.sdk import Context

    from spooled_pipelines.batch.options.row_options import SqlParameters

_END = object()
# Schemes of URIs in which a name before the host is a user.
_USERS = ("http", "https", "hdfs", "ftp", "sftp", "ssh")


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


def open_data(data: Any, op_kwargs: Any, render: Callable[..., Any], context: Context) -> Any:
    """Return the table, or the path of one, that the data stands for.

    Args:
        data: a reference to another task's output, or a list of them; a callable, which is called
            with those of its arguments and of the context that its signature names; or the table,
            path, list of tables or list of paths itself.
        op_kwargs: the callable's own arguments.
        render: renders those that Airflow has not, with the context.
        context: the task's.

    Raises:
        InvalidArgumentError: the result is None.
    """
    value = unwrap(data)
    described = describe(value)
    if is_function(value):
        given = _resolve(unwrap(op_kwargs), context) or {}
        # The others are rendered already, and might look like templates now.
        named = {
            name: render(one.value, context) if isinstance(one, Opaque) else one
            for name, one in given.items()
        }
        value = value(**determine_kwargs(value, (), {**context, **named}))
    value = _resolve(value, context)
    if value is None:
        raise InvalidArgumentError(
            f"data={described} gave None instead of a table. Return a table from it, or if it is "
            "another task's output, see whether that task ran and pushed one."
        )
    return open_path(value) if _is_path(value) else _rows_of_tables(value)


def _resolve(value: Any, context: Context) -> Any:
    """Return what a reference to another task stands for, or a list of them, as Airflow does."""
    if isinstance(value, ResolveMixin):
        return value.resolve(context)
    if isinstance(value, (list, tuple)) and any(isinstance(item, ResolveMixin) for item in value):
        resolved = (_resolve(item, context) for item in value)
        return [item for item in resolved if item is not None]
    return value


def _rows_of_tables(value: Any) -> Any:
    """Return the rows of several tables as one table; anything else as it is."""
    is_list = isinstance(value, (list, tuple))
    # Airflow's own sequences, of what mapped tasks returned.
    is_pulled = isinstance(value, Sequence) and not isinstance(value, (list, tuple, str, bytes))
    if not is_list and not is_pulled and not isinstance(value, Iterator):
        return value
    # A mapped task that was skipped leaves None.
    items = (item for item in value if item is not None) if is_pulled else iter(value)
    first = next(items, _END)
    if first is _END:
        return []
    every = chain([first], items)
    if _is_path(first):
        return [open_path(item) if _is_path(item) else item for item in every]
    if _is_table(first):
        return _record_batches(every)
    # A list can be read again, and tells more about its columns.
    return value if is_list else list(every) if is_pulled else every


def _record_batches(tables: Iterable[Any]) -> Iterator[pa.RecordBatch]:
    from spooled_pipelines.batch.source.open import open_source

    for table in tables:
        # A part of a table may well be empty, and then not even have columns.
        if not hasattr(table, "__len__") or len(table):
            yield from open_source(table).batches


def _is_table(value: Any) -> bool:
    return isinstance(value, list) or hasattr(value, "__arrow_c_stream__")


def _is_path(value: object) -> bool:
    return isinstance(value, (str, os.PathLike, ObjectStoragePath, Asset))


def open_path(location: Any) -> Any:
    """Return a path that can be read: one with its file system where Airflow has a connection."""
    if isinstance(location, Asset):
        location = location.uri
    if isinstance(location, ObjectStoragePath) and location.protocol not in ("", "file"):
        # It brings its file system, with what its connection holds.
        return location
    # Airflow writes paths of this machine as URIs, too. The connection in one is Airflow's.
    text = str(location)
    parts = urlsplit(text)
    if _names_connection(parts):
        return ObjectStoragePath(text)
    return url2pathname(parts.path) if parts.scheme == "file" else text


def _names_connection(parts: SplitResult) -> bool:
    """Whether a URI is one of Airflow's, such as s3://connection@bucket/rows.parquet."""
    user, at, host = parts.netloc.rpartition("@")
    if not at or ":" in user or parts.scheme in _USERS:
        return False
    # Azure's own is abfs://container@account.dfs.core.windows.net/rows.parquet.
    return not host.endswith(".windows.net")
