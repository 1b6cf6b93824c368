"""Arrow tables to pipes and terminals."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import pyarrow as pa

# As many rows as a screen takes.
_SHOWN_ROWS = 20


class TableFormat(str, Enum):
    """How a table is written to standard output."""

    TABLE = "table"
    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"
    ARROW = "arrow"


def write_rows(reader: pa.RecordBatchReader, stream: BinaryIO, kind: TableFormat) -> None:
    """Write what is read as this kind, from front to back; `TABLE` is for `show`."""
    from spooled_pipelines.batch.writers import write_as

    write_as("json" if kind is TableFormat.JSONL else kind.value, reader, _Counting(stream))
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
