"""Tables of other libraries: pandas, polars, DuckDB, and the data frame interchange protocol.

Each is asked in its own way for pieces, so that none is copied whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from spooled_pipelines.batch.source import python_rows
from spooled_pipelines.batch.source.row_filter import Selection
from spooled_pipelines.errors import InvalidArgumentError


def from_pandas(frame: Any, selection: Selection, rows: int) -> tuple[Any, Iterator[Any]]:
    """A pandas DataFrame; its index only where it is asked for."""
    selection.arrow_only("a pandas DataFrame")
    frame = _with_index(frame) if selection.index else frame
    _refuse_lost_index(frame, selection.index)
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
    places = list(range(len(names)))
    if selection.columns is not None and selection.where is None:
        # What is not asked for need not even be something that Arrow can hold.
        selection.check(pa.schema([(name, pa.null()) for name in names]))
        places = [names.index(name) for name in selection.columns]

    def chunks() -> Iterator[list[Any]]:
        for start in range(0, max(1, len(frame)), rows):
            piece = frame.iloc[start : start + rows]
            yield [_column(piece.iloc[:, place]) for place in places]

    chosen = [names[place] for place in places]
    return selection.of(*python_rows.from_chunks(chosen, chunks()))


def _with_index(frame: Any) -> Any:
    try:
        return frame.reset_index()
    except ValueError as error:
        raise InvalidArgumentError(
            f"index=True: the index has the name of a column ({error}). Rename one of them: "
            "df.rename_axis(...)."
        ) from None


def _refuse_lost_index(frame: Any, asked: bool) -> None:
    if frame.index.nlevels > 1 and not asked:
        levels = [str(name) for name in frame.index.names]
        raise InvalidArgumentError(
            f"the DataFrame's index is a MultiIndex ({', '.join(levels)}), and an index is not "
            "sent. Pass index=True to have its levels as columns, or df.reset_index(drop=True)."
        )


def _column(series: Any) -> Any:
    """Arrow values; or Python ones where pandas does not know what they are."""
    if series.dtype == object:
        return series.where(series.notna(), None).tolist()
    try:
        array = pa.array(series, from_pandas=True)
    except pa.ArrowException as error:
        raise InvalidArgumentError(
            f"column {str(series.name)!r} is of dtype {series.dtype}, which Arrow does not take "
            f"({error}). Convert it, such as with .astype(str), or name the other columns "
            "(columns=). Nothing was sent."
        ) from error
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def from_polars(frame: Any, selection: Selection, rows: int) -> tuple[Any, Iterator[Any]]:
    """A polars DataFrame or LazyFrame; of a lazy one only what is selected is computed."""
    if selection.text is not None:
        selection.arrow_only("a polars frame")
    if selection.frame is not None:
        frame = frame.filter(selection.frame)
    lazy = not hasattr(frame, "to_arrow")
    names = frame.collect_schema().names()
    if selection.columns is not None and selection.where is None:
        selection.check(pa.schema([(name, pa.null()) for name in names]))
        frame = frame.select(selection.columns)
    if not lazy:
        reader = pa.RecordBatchReader.from_stream(frame)
        return selection.of(reader.schema, iter(reader))
    import polars as pl

    empty = pl.DataFrame(schema=frame.collect_schema()).to_arrow()
    return selection.of(empty.schema, _collected(frame, rows))


def _collected(frame: Any, rows: int) -> Iterator[Any]:
    import warnings

    with warnings.catch_warnings():
        # polars may call this unstable; what we need of it is little.
        warnings.simplefilter("ignore")
        if hasattr(frame, "collect_batches"):
            pieces = iter(frame.collect_batches(chunk_size=rows, maintain_order=True))
        else:
            pieces = iter((frame.collect(),))
    for piece in pieces:
        yield from piece.to_arrow().to_batches()


def from_duckdb(relation: Any, selection: Selection, rows: int) -> tuple[Any, Iterator[Any]]:
    """A DuckDB relation, computed piece by piece."""
    if selection.frame is not None:
        selection.arrow_only("a DuckDB relation")
    if selection.text is not None:
        relation = relation.filter(selection.text)
    if selection.columns is not None and selection.where is None:
        selection.check(pa.schema([(name, pa.null()) for name in relation.columns]))
        quoted = (name.replace('"', '""') for name in selection.columns)
        relation = relation.project(", ".join(f'"{name}"' for name in quoted))
    read = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    reader = read(rows)
    return selection.of(reader.schema, iter(reader))


def from_interchange(data: Any) -> tuple[Any, Iterator[Any]]:
    """Whatever offers `__dataframe__`, chunk by chunk."""
    from pyarrow.interchange import from_dataframe

    chunks = iter(data.__dataframe__().get_chunks())
    first = from_dataframe(next(chunks))

    def batches() -> Iterator[Any]:
        yield from first.to_batches()
        for chunk in chunks:
            yield from from_dataframe(chunk).to_batches()

    return first.schema, batches()
