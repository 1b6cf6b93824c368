"""One table in one file: Parquet, CSV, JSON, Arrow IPC."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any, NamedTuple

import pyarrow as pa

from spooled_pipelines.batch.source import csv_files, json_rows, python_rows
from spooled_pipelines.batch.source.row_filter import Selection
from spooled_pipelines.errors import InvalidArgumentError

_COMPRESSED = {".gz", ".bz2", ".zst", ".lz4"}
KNOWN = ".parquet, .csv, .tsv, .jsonl, .ndjson, .json, .arrow, .feather"
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

    def inside(self, path: str) -> Location:
        """A file below this folder."""
        name = path if self.name == self.path else self.name.rstrip("/") + path[len(self.path) :]
        return Location(self.filesystem, path, name)


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


def of_object(path: Any) -> Location:
    """The place of a path that brings its own fsspec file system, and so its credentials."""
    from pyarrow import fs

    return Location(fs.PyFileSystem(fs.FSSpecHandler(path.fs)), path.path, str(path))


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


def kind_of(location: Location) -> str:
    """What a file is by its name, compressed or not: parquet, csv, json or arrow.

    Raises:
        InvalidArgumentError: its name does not say.
    """
    suffixes = [suffix.lower() for suffix in PurePath(location.path).suffixes]
    packed = bool(suffixes) and suffixes[-1] in _COMPRESSED
    if packed:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if packed and suffix in (".parquet", ".pq"):
        raise InvalidArgumentError(
            f"the file {location.name!r} is a Parquet file within a compressed one, and has to be "
            "read here and there: unpack it (Parquet is compressed inside)."
        )
    for kind, known in _SUFFIXES.items():
        if suffix in known:
            return kind
    raise InvalidArgumentError(
        f"the file {location.name!r} is of a kind that is not known by its name "
        f"({suffix or 'no extension'}). "
        f"Known are {KNOWN}; anything else can be read into a table first."
    )


_SUFFIXES = {
    "parquet": (".parquet", ".pq"),
    "csv": (".csv", ".tsv"),
    "json": (".jsonl", ".ndjson", ".json"),
    "arrow": (".arrow", ".feather", ".ipc"),
}


def open_file(
    location: Location, selection: Selection, rows: int, constants: Mapping[str, Any] | None = None
) -> tuple[Any, Iterator[Any]]:
    """The schema and the record batches (of about `rows`) of what is selected of one file.

    `constants` are columns that the file's folders give it: name -> Arrow scalar.
    """
    kind = kind_of(location)
    constants = constants or {}
    if kind == "parquet" and selection.where is not None:
        return _parquet_where(location, selection, rows, constants)
    inner = _inside(selection, constants)
    schema, batches = _READERS[kind](location, inner, rows)
    doubled = sorted(constants.keys() & set(schema.names))
    if doubled:
        raise InvalidArgumentError(
            f"the file {location.name!r} has a column {doubled[0]!r}, and so has its folder's "
            "name. Rename one of them."
        )
    schema, batches = _with_constants(schema, batches, constants)
    return selection.of(schema, batches)


def _inside(selection: Selection, constants: Mapping[str, Any]) -> Selection:
    """What has to be read of the file itself."""
    if selection.columns is None or selection.where is not None:
        return replace(selection, columns=None, where=None)
    own = tuple(name for name in selection.columns if name not in constants)
    return replace(selection, columns=own or None)


def _with_constants(
    schema: Any, batches: Iterator[Any], constants: Mapping[str, Any]
) -> tuple[Any, Iterator[Any]]:
    if not constants:
        return schema, batches
    for name, value in constants.items():
        schema = schema.append(pa.field(name, value.type))

    def appended() -> Iterator[Any]:
        for batch in batches:
            more = [pa.repeat(value, batch.num_rows) for value in constants.values()]
            yield pa.RecordBatch.from_arrays([*batch.columns, *more], names=schema.names)

    return schema, appended()


def _parquet(location: Location, selection: Selection, rows: int) -> tuple[Any, Iterator[Any]]:
    from pyarrow import parquet

    file = parquet.ParquetFile(location.file(), buffer_size=_READ_BYTES, pre_buffer=False)
    columns = None if selection.columns is None else list(selection.columns)

    def batches() -> Iterator[Any]:
        with file:
            yield from file.iter_batches(batch_size=rows, columns=columns)

    return selection.of(file.schema_arrow, batches())


def _parquet_where(
    location: Location, selection: Selection, rows: int, constants: Mapping[str, Any]
) -> tuple[Any, Iterator[Any]]:
    """Row groups, and whole files, that cannot hold such a row are not read."""
    from pyarrow import dataset

    sure = None
    for name, value in constants.items():
        field = dataset.field(name)
        one = field.is_null() if value.as_py() is None else field == value
        sure = one if sure is None else sure & one
    fragment = dataset.ParquetFileFormat().make_fragment(
        location.path, location.filesystem, partition_expression=sure
    )
    schema = fragment.physical_schema
    for name, value in constants.items():
        schema = schema.append(pa.field(name, value.type))
    selection.check(schema)
    columns = list(selection.columns or schema.names)
    batches = fragment.to_batches(
        schema=schema,
        columns=columns,
        filter=selection.where,
        batch_size=rows,
        batch_readahead=2,
        fragment_readahead=1,
    )
    return pa.schema([schema.field(name) for name in columns]), batches


def _csv(location: Location, selection: Selection, _rows: int) -> tuple[Any, Iterator[Any]]:
    types = selection.text_types
    if types is None:
        types = csv_files.find_column_types([location], selection.text_options)
        selection.notes.extend(types.notes)
    return selection.of(*csv_files.open_csv(location, types, selection.text_options))


def _json(location: Location, selection: Selection, rows: int) -> tuple[Any, Iterator[Any]]:
    items = json_rows.rows(location.stream, location.name)
    return selection.of(*python_rows.from_iterable(items, rows, "JSON objects"))


def _ipc(location: Location, selection: Selection, _rows: int) -> tuple[Any, Iterator[Any]]:
    try:
        file = pa.ipc.open_file(location.file())
    except pa.ArrowInvalid:
        reader = pa.ipc.open_stream(location.stream())
        return selection.of(reader.schema, iter(reader))
    batches = (file.get_batch(number) for number in range(file.num_record_batches))
    return selection.of(file.schema, batches)


_READERS: dict[str, Callable[[Location, Selection, int], tuple[Any, Iterator[Any]]]] = {
    "parquet": _parquet,
    "csv": _csv,
    "json": _json,
    "arrow": _ipc,
}
