"""Whatever holds a table, as a schema and one iterator of record batches.

Nothing is copied whole, and nothing heavy is imported that the caller has not imported already:
who passes a DataFrame has pandas.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from spooled_pipelines.batch import source_files, source_rows
from spooled_pipelines.errors import InvalidArgumentError

# Rows looked at together: enough to work by column, few enough for the processor's cache.
BATCH_ROWS = 10_000
# Wide rows make smaller batches.
BATCH_BYTES = 8 << 20

_ACCEPTED = (
    "a pandas or polars DataFrame, a pyarrow Table, RecordBatchReader or Dataset, anything else "
    "that speaks the Arrow stream protocol (__arrow_c_stream__), an iterable of dicts or record "
    "batches, or the path of a .parquet, .csv, .jsonl, .json or .arrow file or of a folder of "
    "Parquet files"
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


def open_source(data: Any) -> Source:
    """Find out what `data` is and begin to read it.

    Raises:
        InvalidArgumentError: it is nothing that holds a table, or it cannot be read.
    """
    what = _name(data)
    with _readable(what):
        schema, batches = _opened(data)
    if not len(schema.names):
        raise InvalidArgumentError(f"{what} has no columns, so there is nothing to enqueue.")
    return Source(schema, _gathered(_checked(batches, what)), what)


def _opened(data: Any) -> tuple[Any, Iterator[Any]]:
    if _is_a(data, "pandas", "DataFrame"):
        return _from_pandas(data)
    if _is_a(data, "pandas", "Series"):
        raise InvalidArgumentError("a pandas Series is one column: pass series.to_frame().")
    if isinstance(data, (str, os.PathLike)):
        return source_files.open_path(os.fspath(data), BATCH_ROWS)
    if isinstance(data, pa.RecordBatchReader):
        return data.schema, iter(data)
    if isinstance(data, (pa.Table, pa.RecordBatch)):
        # Not by the stream protocol below: its C strings cut a name at a zero byte.
        return data.schema, iter(_table(data).to_reader())
    if _is_a(data, "pyarrow.dataset", "Dataset"):
        return source_files.from_dataset(data, BATCH_ROWS)
    if _is_a(data, "pyarrow.dataset", "Scanner"):
        return data.projected_schema, data.to_batches()
    if _is_a(data, "polars", "LazyFrame"):
        raise InvalidArgumentError("a polars LazyFrame holds no rows yet: pass frame.collect().")
    if hasattr(data, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(data)
        return reader.schema, iter(reader)
    if isinstance(data, Mapping) or not isinstance(data, Iterable) or isinstance(data, bytes):
        raise InvalidArgumentError(f"data is {_name(data)}; it has to be {_ACCEPTED}.")
    return source_rows.from_iterable(data, BATCH_ROWS, _ACCEPTED)


def _table(data: Any) -> Any:
    return data if isinstance(data, pa.Table) else pa.Table.from_batches([data])


def _from_pandas(frame: Any) -> tuple[Any, Iterator[Any]]:
    if frame.columns.nlevels > 1:
        raise InvalidArgumentError(
            "the DataFrame's columns are a MultiIndex, and a payload's fields have plain names. "
            'Join the levels: df.columns = ["_".join(map(str, name)) for name in df.columns].'
        )
    names = [str(name) for name in frame.columns]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InvalidArgumentError(
            f"the DataFrame has more than one column named {', '.join(map(repr, doubled))}, and a "
            "payload has each name once. Rename or drop one of them."
        )
    schema = pa.Schema.from_pandas(frame, preserve_index=False)

    def batches() -> Iterator[Any]:
        for start in range(0, len(frame), BATCH_ROWS):
            rows = frame.iloc[start : start + BATCH_ROWS]
            # Not RecordBatch.from_pandas: columns that pandas keeps in Arrow come in pieces.
            table = pa.Table.from_pandas(rows, schema=schema, preserve_index=False)
            yield from table.combine_chunks().to_batches()

    return schema, batches()


def _checked(batches: Iterator[Any], what: str) -> Iterator[Any]:
    """The rows in batches of bounded size, whose contents are what their types say."""
    iterator = iter(batches)
    row = 0
    while True:
        with _readable(what, row):
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


@contextmanager
def _readable(what: str, row: int | None = None) -> Iterator[None]:
    """What a reader raises, as one error that says what could not be read."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
        where = "" if not row else f" behind row {row - 1}"
        said = " ".join(str(error).split())
        said = said if len(said) <= 300 else said[:297] + "..."
        raise InvalidArgumentError(
            f"{what} cannot be read{where}: {said or type(error).__name__}. Nothing was sent."
        ) from error


def _name(data: Any) -> str:
    if isinstance(data, (str, os.PathLike)):
        return f"the file {os.fspath(data)!r}"
    kind = type(data)
    module = kind.__module__.split(".")[0]
    name = kind.__name__ if module == "builtins" else f"{module} {kind.__name__}"
    return f"the {name}"


def _is_a(data: Any, module: str, name: str) -> bool:
    """Whether data is an instance of a class of a module that may not even be imported."""
    loaded = sys.modules.get(module)
    kind = getattr(loaded, name, None)
    return isinstance(kind, type) and isinstance(data, kind)
