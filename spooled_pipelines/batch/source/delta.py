"""Delta tables, as the record batches of one version."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError, DeltaProtocolError
from pyarrow import dataset

from spooled_pipelines.batch.options.table_version import TableVersion, milliseconds
from spooled_pipelines.batch.source.frames import from_dataset
from spooled_pipelines.batch.source.row_filter import Opened, Scan
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.text import one_line

_READ_BYTES = 1 << 20


def open_address(address: str, scan: Scan, rows: int) -> Opened:
    """Open the Delta table at a path or URI."""
    with _refused_by(address):
        table = DeltaTable(address)
    return open_table(table, scan, rows)


def open_table(table: DeltaTable, scan: Scan, rows: int) -> Opened:
    """Open the version of a table that `scan` asks for; None: that which the table object has.

    Raises:
        InvalidArgumentError: there is no such version, or the table needs what its library lacks.
    """
    address = table.table_uri
    with _refused_by(address):
        if scan.table_version is not None:
            table = _at_version(table, scan.table_version)
        version = table.version()
        scan.versions_read.append(version)
        scan.notes.append(f"Delta table, version {version}")
        if scan.where is None:
            return _open_by_engine(table, scan, rows)
        scan.counts["filtered"] += table.count()
        files = _as_dataset(table)
        if files is None:
            return _open_by_engine(table, scan, rows)
        options = dataset.ParquetFragmentScanOptions(
            pre_buffer=False, use_buffered_stream=True, buffer_size=_READ_BYTES
        )
        return from_dataset(files, scan, rows, options, counts=False)


def _as_dataset(table: DeltaTable) -> dataset.Dataset | None:
    """Return the table's files, of which Arrow reads what a filter leaves; None: it cannot."""
    if table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        # Arrow would look for columns by names that the files do not have, and find nulls.
        return None
    try:
        # Delta's times are microseconds; as nanoseconds INT96 would wrap around after 2262.
        options = dataset.ParquetReadOptions(coerce_int96_timestamp_unit="us")
        return table.to_pyarrow_dataset(parquet_read_options=options)
    except DeltaProtocolError:
        # Deletion vectors, for one.
        return None


def _open_by_engine(table: DeltaTable, scan: Scan, rows: int) -> Opened:
    """Open a table by the engine in its library, in the order of its files, in little memory."""
    known = pa.schema(table.schema().to_arrow())
    columns = scan.columns_to_read(known.names) or known.names
    schema = pa.schema([known.field(name) for name in columns])
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
    builder = QueryBuilder(
        {
            "datafusion.execution.target_partitions": "1",
            "datafusion.execution.batch_size": str(rows),
        }
    ).register("lake", table)
    reader = pa.RecordBatchReader.from_stream(builder.execute(f"SELECT {quoted} FROM lake"))  # noqa: S608 - names of columns, quoted
    return scan.apply(schema, _read(reader, schema, table.table_uri))


def _read(
    reader: pa.RecordBatchReader, schema: pa.Schema, address: str
) -> Iterator[pa.RecordBatch]:
    while True:
        with _refused_by(address):
            record_batch = next(reader, None)
        if record_batch is None:
            return
        # The engine has views of strings, which Arrow cannot filter.
        yield from pa.Table.from_batches([record_batch]).cast(schema).to_batches()


def _at_version(table: DeltaTable, version: TableVersion) -> DeltaTable:
    """Return the table at another version; the caller's own object stays where it is."""
    if isinstance(version, str):
        raise InvalidArgumentError(
            "table_version of a Delta table must be its number, or a time with a zone, got "
            f"{version!r}."
        )
    there = DeltaTable(table.table_uri, storage_options=getattr(table, "_storage_options", None))
    if isinstance(version, int) and version > there.version():
        raise InvalidArgumentError(
            f"table_version: the Delta table {table.table_uri!r} has no version {version}; its "
            f"newest is {there.version()}."
        )
    # Before another version is loaded, after which the library numbers them differently.
    times = {} if isinstance(version, int) else _times(there)
    there.load_as_version(version)
    if isinstance(version, int):
        return there
    # The library takes a time before the first version for the first version.
    if times.get(there.version(), 0) > milliseconds(version):
        raise InvalidArgumentError(
            f"table_version: the Delta table {table.table_uri!r} has no version as old as "
            f"{version.isoformat(timespec='seconds')}."
        )
    return there


def _times(table: DeltaTable) -> dict[int, int]:
    return {entry["version"]: entry["timestamp"] for entry in table.history()}


@contextmanager
def _refused_by(address: str) -> Iterator[None]:
    try:
        yield
    except (DeltaError, OverflowError) as error:
        raise InvalidArgumentError(
            f"the Delta table {address!r} cannot be read: {one_line(error, 300)}. Nothing was sent."
        ) from error
