"""Tables in files: Parquet (also a folder of it), CSV, JSON lines, Arrow IPC."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import pyarrow as pa

from spooled_pipelines.batch import source_rows
from spooled_pipelines.errors import InvalidArgumentError

_COMPRESSED = {".gz", ".bz2", ".zst", ".lz4"}
_KNOWN = ".parquet, .csv, .jsonl, .ndjson, .json, .arrow, .feather"
# Parquet column chunks are read piecewise, however large the row group.
_READ_BYTES = 1 << 20


class Location(NamedTuple):
    """A file or folder: its pyarrow file system, its path there, and what the user called it."""

    filesystem: Any
    path: str
    name: str

    def stream(self) -> Any:
        """Its bytes from front to back, decompressed as its name says."""
        return self.filesystem.open_input_stream(self.path)

    def file(self) -> Any:
        """Its bytes, to be read here and there."""
        return self.filesystem.open_input_file(self.path)


def open_path(name: str, rows: int) -> tuple[Any, Iterator[Any]]:
    """The schema and the record batches (of about `rows`) of what a path or URI names."""
    from pyarrow.fs import FileType

    location = locate(name)
    found = location.filesystem.get_file_info(location.path).type
    if found == FileType.Directory:
        return _folder(location, rows)
    if found == FileType.NotFound:
        looked = "" if "://" in name else f" (looked for in {str(Path.cwd())!r})"
        raise InvalidArgumentError(f"there is no file {name!r}{looked}. Check the path.")
    suffixes = [suffix.lower() for suffix in PurePath(location.path).suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    if kind in (".parquet", ".pq"):
        return _parquet(location, rows)
    if kind == ".csv":
        return _csv(location)
    if kind in (".jsonl", ".ndjson", ".json"):
        return _json(location, rows)
    if kind in (".arrow", ".feather", ".ipc"):
        return _ipc(location)
    raise InvalidArgumentError(
        f"the file {name!r} is of a kind that is not known by its name ({kind or 'no extension'}). "
        f"Known are {_KNOWN}; anything else can be read into a table first."
    )


def locate(name: str) -> Location:
    """Where a path or URI leads: by pyarrow's own file systems, or else by fsspec's.

    Raises:
        InvalidArgumentError: neither knows the URI's scheme.
    """
    from pyarrow import fs

    if "://" not in name:
        return Location(fs.LocalFileSystem(), name, name)
    try:
        filesystem, path = fs.FileSystem.from_uri(name)
    except pa.ArrowInvalid as unknown:
        filesystem, path = _by_fsspec(name, unknown)
    return Location(filesystem, path, name)


def _by_fsspec(name: str, unknown: Exception) -> tuple[Any, str]:
    from pyarrow import fs

    scheme = name.split("://", 1)[0]
    try:
        from fsspec.core import url_to_fs

        filesystem, path = url_to_fs(name)
    except (ImportError, ValueError):
        raise InvalidArgumentError(
            f"there is no way here to read {scheme}:// URIs ({name!r}). pyarrow knows file, s3, "
            "gs, abfs and hdfs; for others install fsspec and its package for this scheme, or "
            "open the table yourself and pass that."
        ) from unknown
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path


def from_dataset(dataset: Any, rows: int) -> tuple[Any, Iterator[Any]]:
    """A pyarrow Dataset, with little read ahead: it is read once, from front to back."""
    batches = dataset.to_batches(batch_size=rows, batch_readahead=2, fragment_readahead=1)
    return dataset.schema, batches


def _folder(folder: Location, rows: int) -> tuple[Any, Iterator[Any]]:
    from pyarrow import dataset

    found = dataset.dataset(
        folder.path, filesystem=folder.filesystem, format="parquet", partitioning="hive"
    )
    if not found.files:
        raise InvalidArgumentError(f"the folder {folder.name!r} holds no Parquet file.")
    return from_dataset(found, rows)


def _parquet(location: Location, rows: int) -> tuple[Any, Iterator[Any]]:
    from pyarrow import parquet

    file = parquet.ParquetFile(location.file(), buffer_size=_READ_BYTES, pre_buffer=False)

    def batches() -> Iterator[Any]:
        with file:
            yield from file.iter_batches(batch_size=rows)

    return file.schema_arrow, batches()


def _csv(location: Location) -> tuple[Any, Iterator[Any]]:
    from pyarrow import csv

    reader = csv.open_csv(location.stream())

    def batches() -> Iterator[Any]:
        with reader:
            yield from reader

    return reader.schema, batches()


def _json(location: Location, rows: int) -> tuple[Any, Iterator[Any]]:
    """JSON lines; a file that begins with `[` is one JSON array, which is read whole.

    Not by Arrow's reader: that takes text that looks like a time for a time.
    """
    with location.stream() as stream:
        start = stream.read(1024).lstrip()
    if start.startswith(b"["):
        with location.stream() as stream:
            items = json.loads(stream.read())
        return source_rows.from_iterable(items, rows, "an array of JSON objects")
    return source_rows.from_iterable(_json_lines(location), rows, "JSON objects, one per line")


def _json_lines(location: Location) -> Iterator[dict[str, Any]]:
    with location.stream() as stream:
        for number, line in enumerate(_lines(stream), start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError as error:
                # A JSONDecodeError would show where it is in the line only.
                said = getattr(error, "msg", type(error).__name__)
                raise InvalidArgumentError(
                    f"line {number} of {location.name!r} is not JSON ({said}). Nothing was sent."
                ) from None
            if not isinstance(value, dict):
                raise InvalidArgumentError(
                    f"line {number} of {location.name!r} is not a JSON object, and each line has "
                    "to be one. Nothing was sent."
                )
            yield value


def _lines(stream: Any) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(_READ_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    yield rest


def _ipc(location: Location) -> tuple[Any, Iterator[Any]]:
    try:
        file = pa.ipc.open_file(location.file())
    except pa.ArrowInvalid:
        reader = pa.ipc.open_stream(location.stream())
        return reader.schema, iter(reader)
    return file.schema, (file.get_batch(i) for i in range(file.num_record_batches))
