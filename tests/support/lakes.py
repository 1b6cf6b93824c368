"""Lake tables with deletes that only engines on the JVM write: made by hand, to the letter."""

from __future__ import annotations

import base64
import json
import struct
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import write_deltalake
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate
from pyiceberg.typedef import Record
from pyroaring import BitMap

_BASE85 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
_Z85 = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def delta_with_deletion_vector(folder: Path, table: pa.Table, deleted: list[int]) -> None:
    """Write a table, and a second version without some rows, which a deletion vector names."""
    write_deltalake(folder, table, configuration={"delta.enableDeletionVectors": "true"})
    log = folder / "_delta_log"
    actions = map(json.loads, (log / f"{0:020}.json").read_text().splitlines())
    add = next(action["add"] for action in actions if "add" in action)
    now = int(time.time() * 1000)
    remove = {"path": add["path"], "deletionTimestamp": now, "dataChange": True}
    # A magic number, one bitmap of 32 bits, and its upper half.
    vector = struct.pack("<iqI", 1681511377, 1, 0) + BitMap(deleted).serialize()
    padded = base64.b85encode(vector + b"\0" * (-len(vector) % 4))
    add["deletionVector"] = {
        "storageType": "i",
        "pathOrInlineDv": padded.translate(bytes.maketrans(_BASE85, _Z85)).decode(),
        "sizeInBytes": len(vector),
        "cardinality": len(deleted),
    }
    add["stats"] = json.dumps(json.loads(add["stats"]) | {"tightBounds": False})
    info = {"timestamp": now, "operation": "DELETE"}
    written: list[dict[str, Any]] = [{"commitInfo": info}, {"remove": remove}, {"add": add}]
    (log / f"{1:020}.json").write_text("".join(json.dumps(action) + "\n" for action in written))


def sqlite_catalog(folder: Path) -> SqlCatalog:
    """Return a new catalog of Iceberg tables, `prod` by name, with the namespace `db`."""
    folder.mkdir()
    uri = f"sqlite:///{folder}/catalog.db"
    catalog = SqlCatalog("prod", uri=uri, warehouse=f"file://{folder}")
    catalog.create_namespace("db")
    return catalog


class _DeletesWriter(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def delete_by_position(
    table: Table, positions: list[int], content: DataFileContent = DataFileContent.POSITION_DELETES
) -> None:
    """Commit a file of deletes, as merge-on-read does, on the first data file of a table."""
    before = table.current_snapshot()
    assert before is not None
    data_file = next(iter(table.scan().plan_files())).file.file_path
    folder = table.location()
    names = [("file_path", pa.string(), "2147483546"), ("pos", pa.int64(), "2147483545")]
    fields = [pa.field(n, t, False, {"PARQUET:field_id": number}) for n, t, number in names]
    rows = {"file_path": [data_file] * len(positions), "pos": positions}
    path = f"{folder}/data/deletes.parquet"
    pq.write_table(pa.table(rows, schema=pa.schema(fields)), path.removeprefix("file://"))
    snapshot_id, number = table.metadata.new_snapshot_id(), before.sequence_number or 0
    deletes = DataFile.from_args(
        content=content,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=len(positions),
        file_size_in_bytes=Path(path.removeprefix("file://")).stat().st_size,
    )
    deletes.spec_id = 0
    output = table.io.new_output(f"{folder}/metadata/deletes-m0.avro")
    with _DeletesWriter(table.spec(), table.schema(), output, snapshot_id, "deflate") as manifest:
        manifest.add_entry(
            ManifestEntry.from_args(
                status=ManifestEntryStatus.ADDED, snapshot_id=snapshot_id, data_file=deletes
            )
        )
    listed = f"{folder}/metadata/snap-{snapshot_id}.avro"
    with write_manifest_list(
        2, table.io.new_output(listed), snapshot_id, before.snapshot_id, number + 1, "deflate"
    ) as writer:
        writer.add_manifests([*before.manifests(table.io), manifest.to_manifest_file()])
    snapshot = Snapshot.model_validate(
        {
            "snapshot-id": snapshot_id,
            "parent-snapshot-id": before.snapshot_id,
            "sequence-number": number + 1,
            "timestamp-ms": before.timestamp_ms + 1,
            "manifest-list": listed,
            "summary": Summary(Operation.DELETE),
            "schema-id": table.schema().schema_id,
        }
    )
    main = SetSnapshotRefUpdate.model_validate(
        {"ref-name": "main", "type": "branch", "snapshot-id": snapshot_id}
    )
    with table.transaction() as transaction:
        transaction._apply((AddSnapshotUpdate(snapshot=snapshot), main), ())
