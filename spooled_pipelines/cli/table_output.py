"""Output of Arrow tables to pipes and terminals."""

from __future__ import annotations

from codecs import getincrementaldecoder
from enum import Enum
from typing import TYPE_CHECKING, Any, BinaryIO

from spooled_pipelines.text import plain

if TYPE_CHECKING:
    import pyarrow as pa

# As many rows as fit on a screen.
_SHOWN_ROWS = 20


class TableFormat(str, Enum):
    """The formats in which a table is written to standard output."""

    TABLE = "table"
    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"
    ARROW = "arrow"


def write_rows(
    reader: pa.RecordBatchReader,
    stream: BinaryIO,
    file_format: TableFormat,
    *,
    escape_formulas: bool = True,
) -> None:
    """Write the rows in a format other than `TABLE`, which is for `print_table`."""
    from spooled_pipelines.batch.outcome.writers import write_as

    write_as(
        "json" if file_format is TableFormat.JSONL else file_format.value,
        reader,
        _TerminalStream(stream) if stream.isatty() else _CountingStream(stream),
        escape_formulas=escape_formulas,
    )
    stream.flush()


class _CountingStream:
    """A stream that knows its position, which a pipe does not; Parquet needs it."""

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


class _TerminalStream(_CountingStream):
    """A terminal, which is shown what it would obey."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def write(self, data: Any) -> int:
        super().write(plain(self._decoder.decode(bytes(data))).encode())
        return len(data)


def print_table(table: pa.Table) -> None:
    """Print the first rows in columns, and how many there are."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Some columns, such as the row number, are filled for the process that enqueued only.
    empty = [name for name in table.column_names if table.column(name).null_count == table.num_rows]
    if table.num_rows:
        table = table.drop_columns(empty)
    drawn = Table()
    for name in table.column_names:
        drawn.add_column(Text(plain(name)), overflow="ellipsis", no_wrap=True)
    for row in table.slice(0, _SHOWN_ROWS).to_pylist():
        drawn.add_row(*(Text(_cell(value)) for value in row.values()))
    console = Console()
    console.print(drawn)
    if table.num_rows > _SHOWN_ROWS:
        console.print(f"{_SHOWN_ROWS} of {table.num_rows:,} rows; -o FILE.parquet keeps them all")


def _cell(value: Any) -> str:
    return "" if value is None else plain(str(value).split("\n", 1)[0])
