"""Iceberg tables, as the record batches of one snapshot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io import pyarrow as iceberg_arrow
from pyiceberg.table import FileScanTask, StaticTable, Table

from spooled_pipelines.batch.options.table_version import TableVersion, milliseconds
from spooled_pipelines.batch.source.row_filter import Opened, Scan
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.text import one_line

if TYPE_CHECKING:
    from pyiceberg.table.snapshots import Snapshot

    from spooled_pipelines.batch.source.location import Location

_NUMBERED = re.compile(r"v(\d+)(?:\.gz)?\.metadata\.json(?:\.gz)?")


def open_from_catalog(catalog: str, table: str, scan: Scan, rows: int) -> Opened:
    """Open a table by its name in one of the catalogs that pyiceberg is configured for."""
    with _refused_as(f"the Iceberg table {table!r} of the catalog {catalog!r}"):
        opened = load_catalog(catalog).load_table(table)
    return open_table(opened, scan, rows)


def open_metadata(location: Location, address: str, scan: Scan, rows: int) -> Opened:
    """Open a table by the metadata file at `address`, or by its folder, where that is enough."""
    if not address.endswith((".metadata.json", ".metadata.json.gz")):
        address = f"{address.rstrip('/')}/metadata/{_current_metadata(location)}"
    with _refused_as(f"the Iceberg table {location.name!r}"):
        opened = StaticTable.from_metadata(address)
    return open_table(opened, scan, rows)


def open_table(table: Table, scan: Scan, rows: int) -> Opened:
    """Open the snapshot of a table that `scan` asks for; None: the table's current one.

    Raises:
        InvalidArgumentError: there is no such snapshot, or it needs what pyiceberg lacks.
    """
    what = f"the Iceberg table {'.'.join(table.name()[-2:])!r}"
    with _refused_as(what):
        snapshot = _snapshot_of(table, what, scan.table_version)
        if snapshot is None:
            scan.notes.append("Iceberg table, without a snapshot yet")
            return scan.apply(iceberg_arrow.schema_to_pyarrow(table.schema()), iter(()))
        scan.versions_read.append(snapshot.snapshot_id)
        scan.notes.append(f"Iceberg table, snapshot {snapshot.snapshot_id}")
        selected = table.scan(snapshot_id=snapshot.snapshot_id)
        columns = scan.columns_to_read([field.name for field in selected.projection().fields])
        if columns is not None:
            selected = table.scan(snapshot_id=snapshot.snapshot_id, selected_fields=columns)
        projection = selected.projection()
        schema = iceberg_arrow.schema_to_pyarrow(projection, include_field_ids=False)
        arrow_scan = iceberg_arrow.ArrowScan(table.metadata, table.io, projection, AlwaysTrue())
        tasks = list(selected.plan_files())

    def batches() -> Iterator[pa.RecordBatch]:
        for task in tasks:
            # Files may differ in what a type is stored as, such as large strings.
            with _refused_as(what):
                pieces = _read_file(arrow_scan, table, task)
            while True:
                with _refused_as(what):
                    piece = next(pieces, None)
                if piece is None:
                    break
                yield from pa.Table.from_batches([piece]).cast(schema).to_batches(rows)

    return scan.apply(schema, batches())


def _read_file(
    arrow_scan: iceberg_arrow.ArrowScan, table: Table, task: FileScanTask
) -> Iterator[pa.RecordBatch]:
    """Return the rows of one file that are not deleted, piece by piece where pyiceberg can."""
    # What is public makes a list of all pieces of a file first.
    read = getattr(arrow_scan, "_record_batches_from_scan_tasks_and_deletes", None)
    deletes = getattr(iceberg_arrow, "_read_all_delete_files", None)
    if read is None or deletes is None:
        return iter(arrow_scan.to_record_batches([task]))
    pieces: Iterator[pa.RecordBatch] = read([task], deletes(table.io, [task]))
    return pieces


def _current_metadata(folder: Location) -> str:
    """Return the name of the metadata file that says what a table holds now.

    Without a catalog only file systems that never write one number twice say so: of numbered
    files the last one counts. Other files may be of a commit that failed.
    """
    from pyarrow.fs import FileSelector

    selector = FileSelector(f"{folder.path.rstrip('/')}/metadata")
    names = [info.base_name for info in folder.filesystem.get_file_info(selector)]
    numbered = [match for match in map(_NUMBERED.fullmatch, names) if match]
    if numbered:
        return str(max(numbered, key=lambda match: int(match[1]))[0])
    newest = max(name for name in names if name.endswith((".metadata.json", ".metadata.json.gz")))
    raise InvalidArgumentError(
        f"the folder {folder.name!r} is an Iceberg table, and only its catalog knows its current "
        "snapshot. Pass the table, load_catalog(…).load_table(…), or its name, "
        "'iceberg://CATALOG/NAMESPACE.TABLE', or the metadata file to read, such as "
        f"{folder.name.rstrip('/') + '/metadata/' + newest!r}. Nothing was sent."
    )


def _snapshot_of(table: Table, what: str, version: TableVersion | None) -> Snapshot | None:
    if version is None:
        return table.current_snapshot()
    if isinstance(version, datetime):
        found = table.snapshot_as_of_timestamp(milliseconds(version))
    elif isinstance(version, str):
        found = table.snapshot_by_name(version)
    else:
        found = table.snapshot_by_id(version)
    if found is None:
        shown = version.isoformat(timespec="seconds") if isinstance(version, datetime) else version
        there = ", ".join(str(entry.snapshot_id) for entry in table.history()[-5:])
        raise InvalidArgumentError(
            f"table_version: {what} has no snapshot {shown!r}. The last ones are: "
            f"{there or 'none'}."
        )
    return found


@contextmanager
def _refused_as(what: str) -> Iterator[None]:
    try:
        yield
    except (NoSuchTableError, NoSuchNamespaceError, NotImplementedError, ValueError) as error:
        raise InvalidArgumentError(
            f"{what} cannot be read: {one_line(error, 300)}. Nothing was sent."
        ) from error
