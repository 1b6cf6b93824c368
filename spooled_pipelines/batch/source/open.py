"""Whatever holds a table, as a schema and one iterator of record batches.

Nothing is copied whole, and nothing heavy is imported that the caller has not imported already:
who passes a DataFrame has pandas.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from spooled_pipelines.batch.source import files, folders, frames, python_rows, sql_rows
from spooled_pipelines.batch.source.read_errors import readable
from spooled_pipelines.batch.source.row_filter import Selection
from spooled_pipelines.errors import EmptyTableError, InvalidArgumentError

# Rows looked at together: enough to work by column, few enough for the processor's cache.
BATCH_ROWS = 10_000
# Wide rows make smaller batches.
BATCH_BYTES = 8 << 20

_ACCEPTED = (
    "a pandas or polars DataFrame, a polars LazyFrame, a DuckDB relation, a pyarrow Table, "
    "RecordBatchReader, Dataset or Scanner, anything else that speaks the Arrow stream protocol "
    "(__arrow_c_stream__) or has __dataframe__, an iterable of dicts, dataclasses, pydantic models "
    "or record batches, a database cursor, or the path, glob or URI of .parquet, .csv, .jsonl, "
    ".json or .arrow files or of a folder of them"
)


@dataclass(frozen=True)
class Source:
    """A table that can be read once.

    Attributes:
        schema: its columns. Iterables of dicts may bring later batches whose types differ where
            that makes no difference to a payload (nulls, whole numbers among floats).
        batches: its rows, in batches of at most `BATCH_ROWS`.
        what: what it is, for messages.
    """

    schema: Any
    batches: Iterator[Any]
    what: str


def open_source(
    data: Any,
    selection: Selection | None = None,
    *,
    sql: str | None = None,
    connection: Any = None,
) -> Source:
    """Find out what `data` is and begin to read what is selected of it; or run a query.

    Raises:
        InvalidArgumentError: it is nothing that holds a table, or it cannot be read.
        SourceError: the system, the network or the database failed.
    """
    selection = selection or Selection()
    if sql is not None or connection is not None:
        if data is not None or sql is None:
            raise InvalidArgumentError(
                "pass data, or sql= and connection= and None as data; not some of both."
            )
        what = "the query"
        with readable(what):
            schema, batches = sql_rows.open_query(sql, connection, selection, BATCH_ROWS)
    else:
        what = _name(data)
        if selection.index and not _is_a(data, "pandas", "DataFrame"):
            raise InvalidArgumentError(f"index=True is for a pandas DataFrame; data is {what}.")
        with readable(what):
            schema, batches = _opened(data, selection)
    if not len(schema.names):
        if not getattr(data, "shape", (1,))[0]:
            raise EmptyTableError(f"{what} has no rows, so there is nothing to enqueue.")
        raise InvalidArgumentError(f"{what} has no columns, so there is nothing to enqueue.")
    return Source(schema, _gathered(_checked(batches, what)), what)


def _opened(data: Any, selection: Selection) -> tuple[Any, Iterator[Any]]:
    if isinstance(data, (str, os.PathLike)) and not _brings_filesystem(data):
        return folders.open_path(os.fspath(data), selection, BATCH_ROWS)
    if _brings_filesystem(data):
        found = files.of_object(data)
        return folders.open_location(found, found.name, selection, BATCH_ROWS)
    for module, name, read in _FRAMES:
        if _is_a(data, module, name):
            return read(data, selection, BATCH_ROWS)
    if _is_a(data, "pandas", "Series"):
        raise InvalidArgumentError("a pandas Series is one column: pass series.to_frame().")
    if sql_rows.is_cursor(data):
        return sql_rows.open_cursor(data, selection, BATCH_ROWS)
    selection.arrow_only(_name(data))
    if _is_a(data, "pyarrow.dataset", "Dataset"):
        return _from_dataset(data, selection)
    return selection.of(*_as_arrow(data))


_FRAMES: tuple[tuple[str, str, Callable[[Any, Selection, int], tuple[Any, Iterator[Any]]]], ...] = (
    ("pandas", "DataFrame", frames.from_pandas),
    ("polars", "DataFrame", frames.from_polars),
    ("polars", "LazyFrame", frames.from_polars),
    ("duckdb", "DuckDBPyRelation", frames.from_duckdb),
)


def _as_arrow(data: Any) -> tuple[Any, Iterator[Any]]:
    if isinstance(data, pa.RecordBatchReader):
        return data.schema, iter(data)
    if isinstance(data, (pa.Table, pa.RecordBatch)):
        # Not by the stream protocol below: its C strings cut a name at a zero byte.
        return data.schema, iter(_table(data).to_reader())
    if _is_a(data, "pyarrow.dataset", "Scanner"):
        return data.projected_schema, data.to_batches()
    if hasattr(data, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(data)
        return reader.schema, iter(reader)
    if hasattr(data, "__dataframe__"):
        return frames.from_interchange(data)
    if isinstance(data, Mapping) or not isinstance(data, Iterable) or isinstance(data, bytes):
        raise InvalidArgumentError(f"data is {_name(data)}; it has to be {_ACCEPTED}.")
    return python_rows.from_iterable(data, BATCH_ROWS, _ACCEPTED)


def _from_dataset(dataset: Any, selection: Selection) -> tuple[Any, Iterator[Any]]:
    """With little read ahead: it is read once, from front to back."""
    selection.check(dataset.schema)
    scanner = dataset.scanner(
        columns=None if selection.columns is None else list(selection.columns),
        filter=selection.where,
        batch_size=BATCH_ROWS,
        batch_readahead=2,
        fragment_readahead=1,
    )
    return scanner.projected_schema, scanner.to_batches()


def _brings_filesystem(data: Any) -> bool:
    """Whether this is a path of the kind that Airflow's ObjectStoragePath is."""
    return hasattr(data, "fs") and hasattr(data, "path") and hasattr(data, "protocol")


def _table(data: Any) -> Any:
    return data if isinstance(data, pa.Table) else pa.Table.from_batches([data])


def _checked(batches: Iterator[Any], what: str) -> Iterator[Any]:
    """The rows in batches of bounded size, whose contents are what their types say."""
    iterator = iter(batches)
    row = 0
    while True:
        with readable(what, row):
            batch = next(iterator, None)
            if batch is None:
                return
            # Text that is no UTF-8 would otherwise only be noticed by the server.
            batch.validate(full=True)
        yield from _sliced(batch)
        row += batch.num_rows


def _gathered(batches: Iterator[Any]) -> Iterator[Any]:
    """Small batches, as some engines give them, together: each costs as much as a large one."""
    waiting: list[Any] = []
    rows = size = 0
    for batch in batches:
        if waiting and not (
            rows + batch.num_rows <= BATCH_ROWS
            and size < BATCH_BYTES
            and batch.schema.equals(waiting[0].schema)
        ):
            yield _together(waiting)
            waiting, rows, size = [], 0, 0
        waiting.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
    if waiting:
        yield _together(waiting)


def _together(batches: list[Any]) -> Any:
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _sliced(batch: Any) -> Iterator[Any]:
    rows = batch.num_rows
    if not rows:
        return
    per_row = max(1, _size(batch) // rows)
    step = max(1, min(BATCH_ROWS, BATCH_BYTES // per_row))
    for start in range(0, rows, step):
        yield from _halved(batch.slice(start, step))


def _halved(batch: Any) -> Iterator[Any]:
    # Where a few rows hold most of the bytes the average misleads.
    if batch.num_rows > 1 and _size(batch) > 4 * BATCH_BYTES:
        half = batch.num_rows // 2
        yield from _halved(batch.slice(0, half))
        yield from _halved(batch.slice(half))
    else:
        yield batch


def _size(batch: Any) -> int:
    """Bytes of the rows; a dictionary, which all slices share, counts by the row."""
    size = 0
    for column in batch.columns:
        if pa.types.is_dictionary(column.type) and len(column.dictionary):
            size += column.indices.nbytes
            size += len(column) * column.dictionary.nbytes // len(column.dictionary)
        else:
            size += column.nbytes
    return size


def _name(data: Any) -> str:
    if isinstance(data, (str, os.PathLike)) or _brings_filesystem(data):
        return f"the file {str(data)!r}"
    kind = type(data)
    module = kind.__module__.split(".")[0]
    name = kind.__name__ if module == "builtins" else f"{module} {kind.__name__}"
    return f"the {name}"


def _is_a(data: Any, module: str, name: str) -> bool:
    """Whether data is an instance of a class of a module that may not even be imported."""
    loaded = sys.modules.get(module)
    kind = getattr(loaded, name, None)
    return isinstance(kind, type) and isinstance(data, kind)
