"""Record batches to a file, here or at a URI, one in memory at a time."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.fs import LocalFileSystem

from spooled_pipelines.batch.source.files import Location, kind_of, locate
from spooled_pipelines.errors import InvalidArgumentError, SourceError

Where = str | os.PathLike[str]


def check_sink(where: Where, kinds: tuple[str, ...] = ("parquet", "arrow", "csv", "json")) -> str:
    """The place as text, before anything is done for it.

    Raises:
        InvalidArgumentError: its name does not say what it is to be, or its folder is not there.
    """
    name = os.fspath(where)
    found = locate(name)
    kind = kind_of(found)
    if kind not in kinds or Path(found.path).suffix.lower() in (".gz", ".bz2", ".zst", ".lz4"):
        raise InvalidArgumentError(
            f"{name!r} cannot be written: its name has to end like one of a "
            f"{' or '.join(kinds)} file, uncompressed"
        )
    if "://" not in name and not Path(name).absolute().parent.is_dir():
        raise InvalidArgumentError(f"{name!r} cannot be written: there is no such folder")
    return name


def write_stream(reader: Any, where: Where) -> int:
    """Write all of a RecordBatchReader; the file appears whole or not at all. Returns its rows.

    Raises:
        SourceError: the disk or the network failed.
    """
    location = locate(check_sink(where))
    return write_to(location, kind_of(location), reader)


def write_to(location: Location, kind: str, reader: Any) -> int:
    """Write all of a RecordBatchReader to a located file as `kind`; returns its rows.

    The file appears whole or not at all.

    Raises:
        SourceError: the disk or the network failed.
    """
    if not isinstance(location.filesystem, LocalFileSystem):
        return _to_object_store(location, kind, reader)
    path = Path(location.path).absolute()
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            rows = write_as(kind, reader, file)
        # Temporary files are made for their owner alone; this one is an ordinary file.
        umask = os.umask(0)
        os.umask(umask)
        Path(beside).chmod(0o666 & ~umask)
        Path(beside).replace(path)
    except OSError as error:
        raise _not_written(location, error) from error
    finally:
        Path(beside).unlink(missing_ok=True)
    return rows


def write_as(kind: str, reader: Any, file: Any) -> int:
    """Write all of a RecordBatchReader from front to back as `kind`: parquet, arrow, csv or json.

    `file` is opened for bytes, and stays open. Returns how many rows.
    """
    return _WRITERS[kind](reader, file)


def _to_object_store(location: Location, kind: str, reader: Any) -> int:
    try:
        with location.filesystem.open_output_stream(location.path) as file:
            return write_as(kind, reader, file)
    except BaseException as error:
        # What a store of objects has of it may be half of it.
        with suppress(Exception):
            location.filesystem.delete_file(location.path)
        if isinstance(error, OSError):
            raise _not_written(location, error) from error
        raise


def _not_written(location: Location, error: OSError) -> SourceError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return SourceError(f"{location.name!r} cannot be written: {reason}")


def _parquet(reader: Any, file: Any) -> int:
    from pyarrow import parquet

    with parquet.ParquetWriter(file, reader.schema, compression="zstd") as writer:
        return _each(reader, writer.write_batch)


def _arrow(reader: Any, file: Any) -> int:
    with pa.ipc.new_file(file, reader.schema) as writer:
        return _each(reader, writer.write_batch)


def _csv(reader: Any, file: Any) -> int:
    from pyarrow import csv

    flat = pa.schema([pa.field(f.name, _flat_type(f.type)) for f in reader.schema])
    with csv.CSVWriter(file, flat) as writer:
        return _each(reader, lambda batch: writer.write_batch(_flat(batch, flat)))


def _json(reader: Any, file: Any) -> int:
    def write(batch: Any) -> None:
        rows = batch.to_pylist()
        lines = (json.dumps(row, default=str, ensure_ascii=False) + "\n" for row in rows)
        file.write("".join(lines).encode())

    return _each(reader, write)


def _each(reader: Any, write: Callable[[Any], object]) -> int:
    rows = 0
    for batch in reader:
        write(batch)
        rows += batch.num_rows
    return rows


def _flat_type(kind: Any) -> Any:
    return pa.string() if pa.types.is_nested(kind) else kind


def _flat(batch: Any, schema: Any) -> Any:
    """CSV has no lists and objects: they are written as JSON text."""
    columns = [
        column
        if column.type == field.type
        else pa.array(
            [
                None if value is None else json.dumps(value, default=str, ensure_ascii=False)
                for value in column.to_pylist()
            ],
            pa.string(),
        )
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.record_batch(columns, schema=schema)


_WRITERS: dict[str, Callable[[Any, Any], int]] = {
    "parquet": _parquet,
    "arrow": _arrow,
    "csv": _csv,
    "json": _json,
}
