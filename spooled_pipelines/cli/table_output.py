"""Output of Arrow tables to pipes and terminals."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias

from spooled_pipelines.cli.exit_codes import UsageError
from spooled_pipelines.cli.output import say
from spooled_pipelines.cli.text_table import print_rows
from spooled_pipelines.text import plain

if TYPE_CHECKING:
    import pyarrow as pa

# As many rows as fit on a screen.
SHOWN_ROWS = 20


# The formats in which a table is written to standard output.
TableFormat: TypeAlias = Literal["table", "parquet", "csv", "jsonl", "arrow"]


def write_rows(
    reader: pa.RecordBatchReader,
    stream: BinaryIO,
    file_format: TableFormat,
    *,
    escape_formulas: bool = True,
) -> None:
    """Write the rows in a format other than `table`, which is for `print_table`."""
    from spooled_pipelines.batch.outcome.writers import write_as

    write_as(
        "json" if file_format == "jsonl" else file_format,
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


def chosen_rows(
    reader: pa.RecordBatchReader,
    statuses: Sequence[str],
    columns: Sequence[str] | None,
    limit: int | None,
) -> pa.RecordBatchReader:
    """Return the first `limit` rows in these statuses, with these columns; none given: all.

    Raises:
        UsageError: there is no such column.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    known = reader.schema.names
    unknown = [name for name in columns or () if name not in known]
    if unknown:
        raise UsageError(f"there is no column {unknown[0]!r}; there are {', '.join(known)}")
    # A column of the table that was enqueued may have that name.
    status = "job.status" if "job.status" in known else "status"

    def batches() -> Iterator[pa.RecordBatch]:
        left = limit
        for read in reader:
            found = read
            if statuses:
                wanted = pa.array(list(statuses), pa.string())
                found = read.filter(pc.is_in(read.column(status), value_set=wanted))
            found = found.slice(0, left).select(list(columns or known))
            yield found
            left = None if left is None else left - found.num_rows
            if left == 0:
                return

    schema = pa.schema([reader.schema.field(name) for name in columns or known])
    return pa.RecordBatchReader.from_batches(schema, batches())


def print_table(reader: pa.RecordBatchReader, shown: int) -> None:
    """Print the first rows in columns, and how many there are."""
    kept: list[pa.RecordBatch] = []
    rows = 0
    for batch in reader:
        if rows < shown:
            kept.append(batch.slice(0, shown - rows))
        rows += batch.num_rows
    import pyarrow as pa

    table = pa.Table.from_batches(kept, reader.schema)
    # Some columns, such as the row number, are filled for the process that enqueued only.
    names = [name for name in table.column_names if table.column(name).null_count < len(table)]
    names = names if len(table) else table.column_names
    columns = [table.column(name).to_pylist() for name in names]
    print_rows(names, list(zip(*columns, strict=True)))
    if rows > shown:
        say(f"{shown:,} of {rows:,} rows; --limit shows more, -o FILE.parquet keeps them all")
