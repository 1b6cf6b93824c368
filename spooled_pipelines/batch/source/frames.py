"""Tables of libraries: pandas, polars, Arrow's datasets, the interchange protocol.

Each library is asked in its own way for pieces, so that none is copied whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from spooled_pipelines.batch.source import python_rows
from spooled_pipelines.batch.source.row_filter import Opened, Scan
from spooled_pipelines.batch.values.arrow_types import repeated_names
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.text import one_line

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from pyarrow import dataset


def from_pandas(frame: pd.DataFrame, scan: Scan, rows: int) -> Opened:
    """Open a pandas DataFrame; its index only where it is asked for."""
    frame = _with_index(frame) if scan.index else frame
    _refuse_lost_index(frame, scan.index)
    if not scan.index and frame.index.name is not None:
        name = str(frame.index.name)
        scan.notes.append(f"the index, {name}, is not sent: index=True has it as a column")
    if frame.columns.nlevels > 1:
        raise InvalidArgumentError(
            "the DataFrame's columns are a MultiIndex, and a payload's fields have plain names. "
            'Join the levels: df.columns = ["_".join(map(str, name)) for name in df.columns].'
        )
    names = [str(name) for name in frame.columns]
    duplicates = repeated_names(names)
    if duplicates:
        raise InvalidArgumentError(
            f"the DataFrame has more than one column named {', '.join(map(repr, duplicates))}, and "
            "a payload has each name once. Rename or drop one of them."
        )
    # A column that is not read need not even be something that Arrow can hold.
    read = list(scan.columns_to_read(names) or names)
    places = {name: index for index, name in enumerate(names)}
    indices = [places[name] for name in read]

    def chunks() -> Iterator[list[python_rows.Column]]:
        for start in range(0, max(1, len(frame)), rows):
            piece = frame.iloc[start : start + rows]
            yield [_column(piece.iloc[:, index]) for index in indices]

    return scan.apply(*python_rows.from_chunks(read, chunks()))


def _with_index(frame: pd.DataFrame) -> pd.DataFrame:
    try:
        return frame.reset_index()
    except ValueError as error:
        raise InvalidArgumentError(
            f"index=True: the index has the name of a column ({error}). Rename one of them: "
            "df.rename_axis(...)."
        ) from None


def _refuse_lost_index(frame: pd.DataFrame, asked: bool) -> None:
    if frame.index.nlevels > 1 and not asked:
        levels = [str(name) for name in frame.index.names]
        raise InvalidArgumentError(
            f"the DataFrame's index is a MultiIndex ({', '.join(levels)}), and an index is not "
            "sent. Pass index=True to have its levels as columns, or df.reset_index(drop=True)."
        )


def _column(series: pd.Series[Any]) -> python_rows.Column:
    """Return Arrow values; or Python ones where pandas does not know what they are."""
    if series.dtype == object:
        values: list[Any] = series.where(series.notna(), None).tolist()
        return values
    if str(series.dtype).startswith(("period", "interval")):
        # Their texts say them exactly, and a payload cannot hold Arrow's extension types for them.
        return [
            None if missing else str(value)
            for value, missing in zip(series, series.isna(), strict=True)
        ]
    if str(series.dtype).startswith("Sparse"):
        series = series.astype(cast("Any", series.dtype).subtype)
    categories = getattr(getattr(series.dtype, "categories", None), "dtype", None)
    if str(categories).startswith(("period", "interval")):
        return _column(series.astype(cast("Any", categories)))
    try:
        array = pa.array(series, from_pandas=True)
    except pa.ArrowException as error:
        if str(categories) == "object":
            # Values of different types, which are a column without being categories.
            return _column(series.astype(object))
        raise InvalidArgumentError(
            f"column {str(series.name)!r} is of dtype {series.dtype}, which Arrow does not take "
            f"({error}). Convert it, such as with .astype(str), or name the other columns "
            "(columns=). Nothing was sent."
        ) from error
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def from_polars(frame: pl.DataFrame | pl.LazyFrame, scan: Scan, rows: int) -> Opened:
    """Open a polars DataFrame or LazyFrame; of a lazy one only the columns read are computed."""
    with _polars_errors():
        schema = frame.collect_schema()
    columns = scan.columns_to_read(schema.names())
    for name in columns or schema.names():
        if any("\0" in inner for inner in (name, *_names_within(schema[name]))):
            raise InvalidArgumentError(
                f"column {name!r} has a zero byte in its name or in one within it, which ends the "
                "process of polars. Rename it. Nothing was sent."
            )
        if any(large in str(schema[name]) for large in ("Int128", "UInt128")):
            raise InvalidArgumentError(
                f"column {name!r} is of polars' dtype {schema[name]}, which Arrow does not have. "
                "Cast it, to pl.Decimal(38, 0) or to pl.String. Nothing was sent."
            )
        if str(schema[name]) == "Object":
            raise InvalidArgumentError(
                f"column {name!r} is of polars' dtype Object, whose values are addresses in this "
                "process. Convert it, or pass frame.to_dicts(). Nothing was sent."
            )
    if columns is not None:
        frame = frame.select(columns)
    if hasattr(frame, "to_arrow"):
        reader = pa.RecordBatchReader.from_stream(frame)
        return scan.apply(reader.schema, iter(reader))
    import polars as pl

    empty = pl.DataFrame(schema=frame.collect_schema()).to_arrow()
    return scan.apply(empty.schema, _collect(frame, rows))


def _names_within(dtype: Any) -> Iterator[str]:
    """Yield the names of the fields that are nested in a polars type."""
    for field in getattr(dtype, "fields", ()):
        yield field.name
        yield from _names_within(field.dtype)
    if getattr(dtype, "inner", None) is not None:
        yield from _names_within(dtype.inner)


def _collect(frame: Any, rows: int) -> Iterator[pa.RecordBatch]:
    import warnings

    with warnings.catch_warnings():
        # polars may call this unstable; we need little of it.
        warnings.simplefilter("ignore")
        if hasattr(frame, "collect_batches"):
            pieces = iter(frame.collect_batches(chunk_size=rows, maintain_order=True))
        else:
            pieces = iter((frame.collect(),))
    while True:
        with _polars_errors():
            piece = next(pieces, None)
        if piece is None:
            return
        yield from piece.to_arrow().to_batches()


@contextmanager
def _polars_errors() -> Iterator[None]:
    """Raise what polars says of a frame that cannot be computed as a ValueError."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.split(".")[0] == "polars":
            raise ValueError(one_line(error)) from error
        raise


def from_dataset(
    data: dataset.Dataset,
    scan: Scan,
    rows: int,
    options: dataset.FragmentScanOptions | None = None,
    *,
    counts: bool = True,
) -> Opened:
    """Open a dataset of Arrow; little is read ahead, since it is read once, from front to back.

    `counts` says to count the rows that are filtered, for which the end of every file is read.
    """
    scan.check(data.schema)
    if scan.where is not None and counts:
        scan.counts["filtered"] += data.count_rows()
    scanner = data.scanner(
        columns=None if scan.columns is None else list(scan.columns),
        filter=scan.where,
        batch_size=rows,
        batch_readahead=2,
        fragment_readahead=1,
        fragment_scan_options=options,
    )
    return scanner.projected_schema, scanner.to_batches()


def from_interchange(data: Any) -> Opened:
    """Open an object that has `__dataframe__`, chunk by chunk."""
    from pyarrow.interchange import from_dataframe

    chunks = iter(data.__dataframe__().get_chunks())
    first = from_dataframe(next(chunks))

    def batches() -> Iterator[pa.RecordBatch]:
        yield from first.to_batches()
        for chunk in chunks:
            yield from from_dataframe(chunk).to_batches()

    return first.schema, batches()
