"""Parquet's INT96 timestamps, whose range is larger than that of Arrow's nanoseconds.

Spark and Hive write times as INT96, and Arrow reads them as nanoseconds: a time before 1677 or
after 2262 wraps around without a word, 9999-12-31 to 1816.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet, types

from spooled_pipelines.errors import InvalidArgumentError

# The microseconds that 64 bits of nanoseconds can count.
_MICROSECONDS_MAX = (2**63 - 1) // 1000


def int96_unit(
    open_file: Callable[[], IO[bytes]], name: str, columns: list[str] | None
) -> Literal["us"] | None:
    """Return the unit to read a file's INT96 columns in; None: Arrow's own, nanoseconds.

    Raises:
        InvalidArgumentError: a column has times that nanoseconds cannot count, and nanoseconds.
    """
    with parquet.ParquetFile(open_file()) as file:
        columns_of_file = [file.schema.column(index) for index in range(len(file.schema))]
        names = file.schema_arrow.names
        int96 = {
            _column_of(column.path, names)
            for column in columns_of_file
            if column.physical_type == "INT96"
        }
        read = [one for one in names if one in int96]
    if columns is not None:
        read = [one for one in read if one in columns]
    if not read or not any(map(_is_beyond, _times(open_file, read, "us"))):
        return None
    nanoseconds = _times(open_file, read, "ns")
    for times, wrapped in zip(_times(open_file, read, "us"), nanoseconds, strict=True):
        # Both wrap alike, so that their difference is what microseconds leave out.
        rest = pc.subtract(wrapped.cast(pa.int64()), pc.multiply(times.cast(pa.int64()), 1000))
        if pc.any(pc.not_equal(rest, 0)).as_py():
            raise InvalidArgumentError(
                f"the file {name!r} has INT96 times outside of the years 1677 to 2262 beside times "
                f"with nanoseconds (columns {', '.join(read)}), and Arrow has no type for both. "
                "Write the column as a timestamp of microseconds. Nothing was sent."
            )
    return "us"


def _column_of(path: str, names: list[str]) -> str:
    """Return the column that a path within a file is in; its own name may have dots, too."""
    parts = path.split(".")
    tops = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((top for top in tops if top in names), path)


def _is_beyond(times: pa.Array) -> bool:
    bounds = pc.min_max(times.cast(pa.int64()))
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    return low is not None and (low < -_MICROSECONDS_MAX or high > _MICROSECONDS_MAX)


def _times(open_file: Callable[[], IO[bytes]], columns: list[str], unit: str) -> Iterator[pa.Array]:
    with parquet.ParquetFile(open_file(), coerce_int96_timestamp_unit=unit) as file:
        for record_batch in file.iter_batches(columns=columns):
            for column in record_batch.columns:
                yield from _timestamps_in(column)


def _timestamps_in(array: pa.Array) -> Iterator[pa.Array]:
    if types.is_timestamp(array.type):
        yield array
    elif types.is_struct(array.type):
        for inner in array.flatten():
            yield from _timestamps_in(inner)
    elif types.is_list(array.type) or types.is_map(array.type) or types.is_large_list(array.type):
        yield from _timestamps_in(array.values)
