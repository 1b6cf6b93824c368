"""Open any supported table as a schema and an iterator of record batches.

Nothing is copied whole, and nothing heavy is imported that the caller has not imported already: a
caller that passes a DataFrame has pandas.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from spooled_pipelines.batch.options.row_options import SqlParameters
from spooled_pipelines.batch.source import (
    duckdb_rows,
    folders,
    frames,
    lakes,
    python_rows,
    sql_rows,
)
from spooled_pipelines.batch.source.location import brings_filesystem
from spooled_pipelines.batch.source.read_errors import wrap_read_errors
from spooled_pipelines.batch.source.row_filter import Opened, Scan
from spooled_pipelines.errors import EmptyTableError, InvalidArgumentError

# Rows looked at together: enough to work by column, few enough for the processor's cache.
BATCH_ROWS = 10_000
# Wide rows make smaller record batches.
BATCH_BYTES = 8 << 20

_ACCEPTED = (
    "a pandas or polars DataFrame, a polars LazyFrame, a DuckDB relation, a pyarrow Table, "
    "RecordBatchReader, Dataset or Scanner, a DeltaTable, a pyiceberg Table, anything else that "
    "speaks the Arrow stream protocol (__arrow_c_stream__) or has __dataframe__, an iterable of "
    "dicts, dataclasses, pydantic models, record batches or tables, a dict of equally long lists, "
    "a numpy structured array, a database cursor, or the path, glob or URI of .parquet, .csv, "
    ".jsonl, .json or .arrow files or of a folder of them, that of a Delta or Iceberg table, or a "
    "list of paths"
)


@dataclass(frozen=True)
class Source:
    """A table that can be read once.

    Attributes:
        schema: its columns. Iterables of dicts may bring later record batches whose types differ
            where that makes no difference to a payload (nulls, whole numbers among floats).
        batches: its rows, in record batches of at most `BATCH_ROWS`.
        what: what it is, for messages.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    what: str


def open_source(
    data: object,
    scan: Scan | None = None,
    *,
    sql: str | None = None,
    connection: object = None,
    parameters: SqlParameters | None = None,
) -> Source:
    """Detect what `data` is and begin to read what `scan` asks of it; or run a query.

    Raises:
        InvalidArgumentError: it holds no table, or it cannot be read.
        SourceError: the system, the network or the database failed.
    """
    scan = scan or Scan()
    if sql is not None or connection is not None:
        if data is not None or sql is None:
            raise InvalidArgumentError(
                "pass data, or sql= and connection= and None as data; not some of both."
            )
        what = "the query"
        with wrap_read_errors(what):
            schema, batches = sql_rows.open_query(sql, connection, parameters, scan, BATCH_ROWS)
    else:
        what = _describe(data)
        if scan.index and not _is_a(data, "pandas", "DataFrame"):
            raise InvalidArgumentError(f"index=True is for a pandas DataFrame; data is {what}.")
        with wrap_read_errors(what):
            schema, batches = _open_data(data, scan)
    if scan.table_version is not None and not scan.versions_read:
        raise InvalidArgumentError(
            f"table_version is for Delta and Iceberg tables; data is {what}."
        )
    if not len(schema.names):
        if not getattr(data, "shape", (1,))[0]:
            raise EmptyTableError(f"{what} has no rows, so there is nothing to enqueue.")
        raise InvalidArgumentError(f"{what} has no columns, so there is nothing to enqueue.")
    return Source(schema, coalesce(validate(batches, what)), what)


def _open_data(data: object, scan: Scan) -> Opened:
    if isinstance(data, str) and data.startswith(lakes.CATALOG_SCHEME):
        return lakes.open_from_catalog(data, scan, BATCH_ROWS)
    if _is_path(data):
        return folders.open_paths([data], scan, BATCH_ROWS)
    if isinstance(data, (list, tuple)) and data and _is_path(data[0]):
        return folders.open_paths(data, scan, BATCH_ROWS)
    for module, name, read in _FRAMES:
        if _is_a(data, module, name):
            return read(data, scan, BATCH_ROWS)
    for module in ("pandas", "polars"):
        if _is_a(data, module, "Series"):
            raise InvalidArgumentError(f"a {module} Series is one column: pass series.to_frame().")
    if sql_rows.is_cursor(data):
        return sql_rows.open_cursor(data, scan, BATCH_ROWS)
    return scan.apply(*_open_arrow(data))


_FRAMES: tuple[tuple[str, str, Callable[[Any, Scan, int], Opened]], ...] = (
    ("pandas", "DataFrame", frames.from_pandas),
    ("polars", "DataFrame", frames.from_polars),
    ("polars", "LazyFrame", frames.from_polars),
    ("duckdb", "DuckDBPyRelation", duckdb_rows.from_relation),
    ("pyarrow.dataset", "Dataset", frames.from_dataset),
    ("deltalake", "DeltaTable", lakes.from_delta),
    ("pyiceberg.table", "Table", lakes.from_iceberg),
)


def _open_arrow(data: Any) -> Opened:
    if isinstance(data, pa.RecordBatchReader):
        return data.schema, iter(data)
    if isinstance(data, pa.RecordBatch):
        return data.schema, iter([data])
    if isinstance(data, pa.Table):
        # Not by the stream protocol below: its C strings cut a name at a zero byte.
        return data.schema, iter(data.to_reader())
    if _is_a(data, "pyarrow.dataset", "Scanner"):
        return data.projected_schema, data.to_batches()
    if hasattr(data, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(data)
        return reader.schema, iter(reader)
    if hasattr(data, "__dataframe__"):
        return frames.from_interchange(data)
    if python_rows.holds_columns(data):
        return python_rows.from_columns(data, BATCH_ROWS)
    if getattr(getattr(data, "dtype", None), "names", None):
        # numpy's structured array: each field is a column.
        return _open_arrow(pa.table({name: data[name] for name in data.dtype.names}))
    if isinstance(data, Mapping) or not isinstance(data, Iterable) or isinstance(data, bytes):
        raise InvalidArgumentError(f"data must be {_ACCEPTED}, got {_describe(data)}.")
    return python_rows.from_iterable(data, BATCH_ROWS, _ACCEPTED, _open_table)


def _open_table(table: object) -> Opened:
    return _open_data(table, Scan())


def _is_path(data: object) -> bool:
    return isinstance(data, (str, os.PathLike)) or brings_filesystem(data)


def validate(batches: Iterator[pa.RecordBatch], what: str) -> Iterator[pa.RecordBatch]:
    """Yield the rows in record batches of bounded size whose contents are what their types say."""
    iterator = iter(batches)
    row = 0
    while True:
        with wrap_read_errors(what, row):
            record_batch = next(iterator, None)
            if record_batch is None:
                return
            # Text that is not UTF-8 would otherwise only be noticed by the server.
            record_batch.validate(full=True)
        yield from split_by_bytes(record_batch)
        row += record_batch.num_rows


def coalesce(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Join small record batches, as some engines give them: each costs as much as a large one."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for record_batch in batches:
        if waiting and not (
            rows + record_batch.num_rows <= BATCH_ROWS
            and size < BATCH_BYTES
            and record_batch.schema.equals(waiting[0].schema)
        ):
            yield from concat(waiting)
            waiting, rows, size = [], 0, 0
        waiting.append(record_batch)
        rows += record_batch.num_rows
        size += record_batch.nbytes
    if waiting:
        yield from concat(waiting)


def concat(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Return record batches of one schema as one, where Arrow can join them."""
    if len(batches) == 1:
        return batches
    try:
        joined = pa.Table.from_batches(batches).combine_chunks()
    except pa.ArrowException:
        # Dictionaries of other values each may be too many for one of the indices' type.
        return batches
    return list(joined.to_batches())


def split_by_bytes(record_batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield slices of at most `BATCH_ROWS` rows and about `BATCH_BYTES` bytes."""
    rows = record_batch.num_rows
    if not rows:
        return
    per_row = max(1, _size(record_batch) // rows)
    step = max(1, min(BATCH_ROWS, BATCH_BYTES // per_row))
    for start in range(0, rows, step):
        yield from _halve(record_batch.slice(start, step))


def _halve(record_batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    # Where a few rows hold most of the bytes the average misleads.
    if record_batch.num_rows > 1 and _size(record_batch) > 4 * BATCH_BYTES:
        half = record_batch.num_rows // 2
        yield from _halve(record_batch.slice(0, half))
        yield from _halve(record_batch.slice(half))
    else:
        yield record_batch


def _size(record_batch: pa.RecordBatch) -> int:
    """Return the bytes of the rows; a dictionary, which all slices share, counts by the row."""
    size = 0
    for column in record_batch.columns:
        if pa.types.is_dictionary(column.type) and len(column.dictionary):
            size += column.indices.nbytes
            size += len(column) * column.dictionary.nbytes // len(column.dictionary)
        else:
            size += column.nbytes
    return size


def _describe(data: object) -> str:
    if _is_path(data):
        return f"the file {str(data)!r}"
    cls = type(data)
    module = cls.__module__.split(".")[0]
    name = cls.__name__ if module == "builtins" else f"{module} {cls.__name__}"
    return f"the {name}"


def _is_a(data: object, module: str, name: str) -> bool:
    """Return whether data is an instance of a class whose module may not even be imported."""
    cls = getattr(sys.modules.get(module), name, None)
    return isinstance(cls, type) and isinstance(data, cls)
