"""Arrow tables to files and terminals."""

from __future__ import annotations

import json
import os
import tempfile
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from spooled_pipelines.cli.codes import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

# As many rows as a screen takes.
_SHOWN_ROWS = 20
_ROWS_AT_ONCE = 10_000


class TableFormat(str, Enum):
    """How a table is written to standard output."""

    TABLE = "table"
    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"
    ARROW = "arrow"


_SUFFIXES = {f".{kind.value}": kind for kind in TableFormat if kind is not TableFormat.TABLE}


def check_output(path: Path) -> None:
    """UsageError where no table can be written to this file: before anything else is done."""
    if path.suffix not in _SUFFIXES:
        raise UsageError(f"{path}: the name should end in one of {', '.join(_SUFFIXES)}")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: no such folder")


def write_file(table: pa.Table, path: Path) -> None:
    """Write the table as the file's suffix says; the file appears whole or not at all."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write_stream(table, file, _SUFFIXES[path.suffix])
        # Temporary files are made for their owner alone; this one is an ordinary file.
        umask = os.umask(0)
        os.umask(umask)
        Path(beside).chmod(0o666 & ~umask)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def write_stream(table: pa.Table, stream: BinaryIO, kind: TableFormat) -> None:
    """Write the table as this kind, from front to back; `TABLE` is for `show`."""
    if kind is TableFormat.PARQUET:
        import pyarrow.parquet

        pyarrow.parquet.write_table(table, _Counting(stream))
    elif kind is TableFormat.CSV:
        import pyarrow.csv

        pyarrow.csv.write_csv(_flat(table), _Counting(stream))
    elif kind is TableFormat.ARROW:
        import pyarrow.ipc

        with pyarrow.ipc.new_file(_Counting(stream), table.schema) as file:
            file.write_table(table)
    else:
        write_json_lines(table, stream)
    stream.flush()


class _Counting:
    """A stream that knows how much went into it, which a pipe does not; Parquet has to know."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._written = 0
        self.closed = False

    def write(self, data: Any) -> int:
        self._stream.write(data)
        self._written += len(data)
        return len(data)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        self._stream.flush()

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


def write_json_lines(table: pa.Table, stream: BinaryIO) -> None:
    """One JSON object a row."""
    for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
        rows = batch.to_pylist()
        lines = (json.dumps(row, default=str, ensure_ascii=False) for row in rows)
        stream.writelines(f"{line}\n".encode() for line in lines)


def show(table: pa.Table) -> None:
    """The first rows in columns, and how many there are."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Some are for those who enqueued alone, such as the row's number; a screen is small.
    empty = [name for name in table.column_names if table.column(name).null_count == table.num_rows]
    if table.num_rows:
        table = table.drop_columns(empty)
    drawn = Table()
    for name in table.column_names:
        drawn.add_column(Text(name), overflow="ellipsis", no_wrap=True)
    for row in table.slice(0, _SHOWN_ROWS).to_pylist():
        drawn.add_row(*(Text(_cell(value)) for value in row.values()))
    console = Console()
    console.print(drawn)
    if table.num_rows > _SHOWN_ROWS:
        console.print(f"{_SHOWN_ROWS} of {table.num_rows:,} rows; -o FILE.parquet keeps them all")


def _cell(value: Any) -> str:
    return "" if value is None else str(value).split("\n", 1)[0]


def _flat(table: pa.Table) -> pa.Table:
    """CSV has no lists and objects: they are written as JSON text."""
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            texts = [
                None if value is None else json.dumps(value, default=str, ensure_ascii=False)
                for value in table.column(place).to_pylist()
            ]
            table = table.set_column(place, field.name, pa.array(texts, pa.string()))
    return table
