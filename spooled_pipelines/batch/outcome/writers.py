"""Record batches to a file, here or at a URI, one in memory at a time."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import LocalFileSystem

from spooled_pipelines.batch.source.files import file_format_of
from spooled_pipelines.batch.source.location import Location, locate
from spooled_pipelines.batch.values.arrow_types import is_json, storage_array
from spooled_pipelines.batch.values.iso8601 import duration_text
from spooled_pipelines.batch.values.table_arrays import is_bytes
from spooled_pipelines.errors import InvalidArgumentError, SourceError
from spooled_pipelines.text import one_line, plain_json
from spooled_pipelines.types import StrPath


class BinaryWriter(Protocol):
    """A file that is written from front to back."""

    def write(self, data: Any, /) -> int: ...


_FORMATS = ("parquet", "arrow", "csv", "json")
# What spreadsheets compute.
_FORMULA = r"^[=+\-@\t\r]"
_NAME_SHOWN = 50
_COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")


def parse_output_path(path: StrPath, formats: tuple[str, ...] = _FORMATS) -> str:
    """Return an output path as text, checked before anything is done for it.

    Raises:
        InvalidArgumentError: its name does not say the format, or its folder does not exist.
    """
    name = os.fspath(path)
    output_format(locate(name), formats)
    if "://" not in name and not Path(name).absolute().parent.is_dir():
        raise InvalidArgumentError(f"{name!r} cannot be written: there is no such folder")
    return name


def output_format(location: Location, formats: tuple[str, ...] = _FORMATS) -> str:
    """Return the format that the name of a file to write says.

    Raises:
        InvalidArgumentError: it says none of `formats`.
    """
    file_format = file_format_of(location)
    is_compressed = Path(location.path).suffix.lower() in _COMPRESSED
    if file_format not in formats or is_compressed:
        raise InvalidArgumentError(
            f"{location.name!r} cannot be written: its name must end like that of a "
            f"{' or '.join(formats)} file, uncompressed"
        )
    return file_format


def write_stream(
    reader: pa.RecordBatchReader, path: StrPath, *, escape_formulas: bool = False
) -> int:
    """Write all record batches to a path or URI; return the number of rows.

    With `escape_formulas`, texts in CSV that a spreadsheet would compute begin with an apostrophe.
    The file appears whole or not at all.

    Raises:
        SourceError: the disk or the network failed.
    """
    location = locate(parse_output_path(path))
    return write_to(location, file_format_of(location), reader, escape_formulas=escape_formulas)


def write_to(
    location: Location,
    file_format: str,
    reader: pa.RecordBatchReader,
    *,
    escape_formulas: bool = False,
) -> int:
    """Write all record batches to a located file; return the number of rows.

    The file appears whole or not at all.

    Raises:
        SourceError: the disk or the network failed.
    """
    if not isinstance(location.filesystem, LocalFileSystem):
        return _write_to_object_store(location, file_format, reader, escape_formulas)
    path = Path(location.path).absolute()
    temporary = path.with_name(f".{path.name[:_NAME_SHOWN]}.{secrets.token_hex(8)}")
    try:
        # An ordinary file, whose mode the umask says; the umask itself belongs to all threads.
        with temporary.open("xb") as file:
            rows = write_as(file_format, reader, file, escape_formulas=escape_formulas)
        temporary.replace(path)
    except OSError as error:
        raise _not_written(location, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def write_as(
    file_format: str,
    reader: pa.RecordBatchReader,
    file: BinaryWriter,
    *,
    escape_formulas: bool = False,
) -> int:
    """Write all record batches from front to back as parquet, arrow, csv or json.

    `file` is opened for bytes, and stays open. Return the number of rows.
    """
    if file_format == "csv":
        return _csv(reader, file, escape_formulas=escape_formulas)
    return _WRITERS[file_format](reader, file)


def _write_to_object_store(
    location: Location, file_format: str, reader: pa.RecordBatchReader, escape_formulas: bool
) -> int:
    try:
        with location.filesystem.open_output_stream(location.path) as file:
            return write_as(file_format, reader, file, escape_formulas=escape_formulas)
    except BaseException as error:
        # The store may have half of it.
        with suppress(Exception):
            location.filesystem.delete_file(location.path)
        if isinstance(error, OSError):
            raise _not_written(location, error) from error
        raise


def _not_written(location: Location, error: OSError) -> SourceError:
    reason = one_line(error, 300) or type(error).__name__
    return SourceError(f"{location.name!r} cannot be written: {reason}")


def _parquet(reader: pa.RecordBatchReader, file: BinaryWriter) -> int:
    from pyarrow import parquet

    with parquet.ParquetWriter(file, reader.schema, compression="zstd") as writer:
        return _write_each(reader, writer.write_batch)


def _arrow(reader: pa.RecordBatchReader, file: BinaryWriter) -> int:
    with pa.ipc.new_file(file, reader.schema) as writer:
        return _write_each(reader, writer.write_batch)


def _csv(reader: pa.RecordBatchReader, file: BinaryWriter, *, escape_formulas: bool) -> int:
    from pyarrow import csv

    flat = pa.schema([pa.field(f.name, _flat_type(f.type)) for f in reader.schema])
    named = flat
    if escape_formulas:
        named = pa.schema([f.with_name(re.sub(_FORMULA, r"'\g<0>", f.name)) for f in flat])

    def write(record_batch: pa.RecordBatch) -> None:
        columns = _flatten(record_batch, flat).columns
        if escape_formulas:
            columns = [_without_formulas(column) for column in columns]
        writer.write_batch(pa.record_batch(columns, schema=named))

    with csv.CSVWriter(file, named) as writer:
        return _write_each(reader, write)


def _without_formulas(column: pa.Array) -> pa.Array:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    return pc.replace_substring_regex(column, _FORMULA, r"'\0")


def _json(reader: pa.RecordBatchReader, file: BinaryWriter) -> int:
    def write(record_batch: pa.RecordBatch) -> None:
        lines = (_json_text(row) + "\n" for row in record_batch.to_pylist())
        file.write("".join(lines).encode())

    return _write_each(reader, write)


def _write_each(
    record_batches: Iterable[pa.RecordBatch], write: Callable[[pa.RecordBatch], object]
) -> int:
    rows = 0
    for record_batch in record_batches:
        write(record_batch)
        rows += record_batch.num_rows
    return rows


def _flat_type(arrow_type: pa.DataType) -> pa.DataType:
    as_text = (
        pa.types.is_nested(arrow_type)
        or pa.types.is_duration(arrow_type)
        or pa.types.is_string_view(arrow_type)
        or isinstance(arrow_type, pa.BaseExtensionType)
        or is_bytes(arrow_type)
    )
    return pa.string() if as_text else arrow_type


def _flatten(record_batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return lists and objects as JSON text, and other values that CSV has not as payloads do."""
    columns = []
    for column, field in zip(record_batch.columns, schema, strict=True):
        if column.type == field.type:
            columns.append(column)
            continue
        columns.append(_text(column))
    return pa.record_batch(columns, schema=schema)


def _text(column: pa.Array) -> pa.StringArray:
    plain = storage_array(column)
    if is_json(plain.type):
        return plain.storage.cast(pa.string())
    if pa.types.is_duration(plain.type):
        return duration_text(plain)
    if not pa.types.is_nested(plain.type) and not is_bytes(plain.type):
        return plain.cast(pa.string())
    as_text = _plain if is_bytes(plain.type) else _json_text
    texts = [None if value is None else as_text(value) for value in plain.to_pylist()]
    return pa.array(texts, pa.string())


def _json_text(value: object) -> str:
    return plain_json(json.dumps(value, default=_plain, ensure_ascii=False))


def _plain(value: object) -> str:
    """Return a value that JSON has not as payloads write it; a time with its zone's offset."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, timedelta):
        (text,) = duration_text(pa.array([value], pa.duration("us"))).to_pylist()
        return str(text)
    return value.isoformat() if isinstance(value, datetime) else str(value)


_WRITERS: dict[str, Callable[[pa.RecordBatchReader, BinaryWriter], int]] = {
    "parquet": _parquet,
    "arrow": _arrow,
    "json": _json,
}
