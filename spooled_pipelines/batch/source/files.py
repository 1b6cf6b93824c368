"""One table in one file: Parquet, CSV, JSON, Arrow IPC."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePath

import pyarrow as pa

from spooled_pipelines.batch.source import csv_files, json_rows, python_rows
from spooled_pipelines.batch.source.int96 import int96_unit
from spooled_pipelines.batch.source.location import Location
from spooled_pipelines.batch.source.row_filter import Opened, Scan
from spooled_pipelines.errors import InvalidArgumentError

_COMPRESSED = {".gz", ".bz2", ".zst", ".lz4"}
KNOWN = ".parquet, .csv, .tsv, .jsonl, .ndjson, .json, .arrow, .feather"
# Parquet column chunks are read piecewise, however large the row group.
_READ_BYTES = 1 << 20


def file_format_of(location: Location) -> str:
    """Return the format that a file's name says, compressed or not: parquet, csv, json or arrow.

    Raises:
        InvalidArgumentError: its name does not say.
    """
    suffixes = [suffix.lower() for suffix in PurePath(location.path).suffixes]
    is_compressed = bool(suffixes) and suffixes[-1] in _COMPRESSED
    if is_compressed:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if is_compressed and suffix in _SUFFIXES["parquet"]:
        raise InvalidArgumentError(
            f"the file {location.name!r} is a Parquet file within a compressed one, which cannot "
            "be read at any position: unpack it (Parquet is compressed inside)."
        )
    for file_format, known in _SUFFIXES.items():
        if suffix in known:
            return file_format
    raise InvalidArgumentError(
        f"the name of the file {location.name!r} has no known format "
        f"({suffix or 'no extension'}). "
        f"Known are {KNOWN}; read any other into a table first."
    )


_SUFFIXES = {
    "parquet": (".parquet", ".pq"),
    "csv": (".csv", ".tsv"),
    "json": (".jsonl", ".ndjson", ".json"),
    "arrow": (".arrow", ".feather", ".ipc"),
}


def open_file(
    location: Location, scan: Scan, rows: int, constants: Mapping[str, pa.Scalar] | None = None
) -> Opened:
    """Open one file, in record batches of about `rows`.

    `constants` are columns that the file's folders give it.
    """
    file_format = file_format_of(location)
    constants = constants or {}
    if file_format == "parquet" and scan.where is not None:
        return _filter_parquet(location, scan, rows, constants)
    schema, batches = _READERS[file_format](location, _scan_of_file(scan, constants), rows)
    duplicates = sorted(constants.keys() & set(schema.names))
    if duplicates:
        raise InvalidArgumentError(
            f"the file {location.name!r} has a column {duplicates[0]!r}, and so has its folder's "
            "name. Rename one of them."
        )
    return scan.apply(*_append_constants(schema, batches, constants))


def _scan_of_file(scan: Scan, constants: Mapping[str, pa.Scalar]) -> Scan:
    """Return what must be read of the file itself."""
    if scan.columns is None or scan.where is not None:
        return replace(scan, columns=None, where=None)
    own = tuple(name for name in scan.columns if name not in constants)
    return replace(scan, columns=own or None)


def _append_constants(
    schema: pa.Schema, batches: Iterator[pa.RecordBatch], constants: Mapping[str, pa.Scalar]
) -> Opened:
    if not constants:
        return schema, batches
    for name, value in constants.items():
        schema = schema.append(pa.field(name, value.type))

    def appended() -> Iterator[pa.RecordBatch]:
        for record_batch in batches:
            more = [pa.repeat(value, record_batch.num_rows) for value in constants.values()]
            yield pa.RecordBatch.from_arrays([*record_batch.columns, *more], names=schema.names)

    return schema, appended()


def _open_parquet(location: Location, scan: Scan, rows: int) -> Opened:
    from pyarrow import parquet

    columns = None if scan.columns is None else list(scan.columns)
    file = parquet.ParquetFile(
        location.open_file(),
        buffer_size=_READ_BYTES,
        pre_buffer=False,
        coerce_int96_timestamp_unit=int96_unit(location.open_file, location.name, columns),
    )

    def batches() -> Iterator[pa.RecordBatch]:
        with file:
            yield from file.iter_batches(batch_size=rows, columns=columns)

    return scan.apply(file.schema_arrow, batches())


def _filter_parquet(
    location: Location, scan: Scan, rows: int, constants: Mapping[str, pa.Scalar]
) -> Opened:
    """Open a file; its row groups, or all of it, that cannot hold such a row are not read."""
    from pyarrow import dataset

    known = None
    for name, value in constants.items():
        field = dataset.field(name)
        one = field.is_null() if value.as_py() is None else field == value
        known = one if known is None else known & one
    unit = int96_unit(location.open_file, location.name, None)
    file_format = dataset.ParquetFileFormat(coerce_int96_timestamp_unit=unit)
    fragment = file_format.make_fragment(
        location.path, location.filesystem, partition_expression=known
    )
    schema = fragment.physical_schema
    for name, value in constants.items():
        schema = schema.append(pa.field(name, value.type))
    scan.check(schema)
    scan.counts["filtered"] += fragment.count_rows()
    columns = list(scan.columns or schema.names)
    batches = fragment.to_batches(
        schema=schema,
        columns=columns,
        filter=scan.where,
        batch_size=rows,
        batch_readahead=2,
        fragment_readahead=1,
    )
    return pa.schema([schema.field(name) for name in columns]), batches


def _open_csv(location: Location, scan: Scan, _rows: int) -> Opened:
    types = scan.text_types
    if types is None:
        types = csv_files.find_column_types([location], scan.text_options)
        scan.notes.extend(types.notes)
    return scan.apply(*csv_files.open_csv(location, types, scan.text_options))


def _open_json(location: Location, scan: Scan, rows: int) -> Opened:
    objects = json_rows.read_objects(location.open_stream, location.name)
    return scan.apply(*python_rows.from_iterable(objects, rows, "JSON objects"))


def _open_ipc(location: Location, scan: Scan, _rows: int) -> Opened:
    try:
        file = pa.ipc.open_file(location.open_file())
    except pa.ArrowInvalid:
        reader = pa.ipc.open_stream(location.open_stream())
        return scan.apply(reader.schema, iter(reader))
    batches = (file.get_batch(number) for number in range(file.num_record_batches))
    return scan.apply(file.schema, batches)


_READERS: dict[str, Callable[[Location, Scan, int], Opened]] = {
    "parquet": _open_parquet,
    "csv": _open_csv,
    "json": _open_json,
    "arrow": _open_ipc,
}
