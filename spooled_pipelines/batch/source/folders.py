"""Tables in paths: one file, a glob, a folder with or without partitions, or a list of these.

Many files are read one after the other, as one table: they must have the same columns.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

import pyarrow as pa

from spooled_pipelines.batch.source import csv_files, lakes
from spooled_pipelines.batch.source.files import KNOWN, file_format_of, open_file
from spooled_pipelines.batch.source.location import Location, brings_filesystem, locate, location_of
from spooled_pipelines.batch.source.read_errors import wrap_read_errors
from spooled_pipelines.batch.source.row_filter import Opened, Scan
from spooled_pipelines.batch.source.type_compat import compatible_types
from spooled_pipelines.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo

_MAGIC = re.compile(r"[*?\[]")
# Hive's name for a folder of rows without a value.
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")


class _File(NamedTuple):
    """A file of a table: where it is, its size, and the values that its folders' names give it."""

    location: Location
    size: int | None
    constants: dict[str, pa.Scalar]


def open_paths(paths: Sequence[object], scan: Scan, rows: int) -> Opened:
    """Open what paths, globs or URIs name, as one table in record batches of about `rows`.

    A path may bring its own file system, as Airflow's ObjectStoragePath does.
    """
    files: list[_File] = []
    for path in paths:
        if brings_filesystem(path):
            whole = location_of(path)
            name = whole.name
            below, pattern = _split_pattern(whole.path)
            location = whole._replace(path=below, name=name.removesuffix(pattern))
        elif isinstance(path, (str, os.PathLike)):
            name = os.fspath(path)
            below, pattern = _split_pattern(name)
            location = locate(below)
        else:
            raise InvalidArgumentError(
                f"every item of a list of paths must be one, got {type(path).__name__}."
            )
        found = _find_files(location, pattern, name)
        if not isinstance(found, list):
            if len(paths) > 1:
                raise InvalidArgumentError(
                    f"{name!r} is a lake table: pass its path alone, not in a list of paths."
                )
            return found(scan, rows)
        files += found
    _refuse_same_file(files)
    if len(files) == 1:
        return open_file(files[0].location, scan, rows, files[0].constants)
    return _open_many(files, name, scan, rows)


def _refuse_same_file(files: list[_File]) -> None:
    """Refuse files that are one, by way of links or of overlapping paths."""
    names: dict[str, str] = {}
    for location, _, _ in files:
        is_local = location.filesystem.type_name == "local"
        path = os.path.realpath(location.path) if is_local else location.name
        if path in names:
            raise InvalidArgumentError(
                f"{names[path]!r} and {location.name!r} are the same file, whose rows would be "
                "sent twice. Name each file once. Nothing was sent."
            )
        names[path] = location.name


def _find_files(
    location: Location, pattern: str, name: str
) -> list[_File] | Callable[[Scan, int], Opened]:
    """Return the files of a location, or those below it that match a glob, called `name`.

    Of a lake table: what opens it.
    """
    from pyarrow.fs import FileType

    if pattern and location.filesystem.get_file_info(location.path + pattern).type == FileType.File:
        # A file whose name only looks like a glob.
        location, pattern = location.inside(location.path + pattern), ""
    if pattern:
        listed = _list_files(location, recursive="/" in pattern or "**" in pattern)
        infos = _matching(listed, location, pattern)
        if not infos:
            raise InvalidArgumentError(f"no file matches {name!r}. Check the pattern.")
        lakes.refuse_files(location, infos, listed)
        return _files_below(location, infos)
    file_type = location.filesystem.get_file_info(location.path).type
    if file_type == FileType.Directory:
        kind = lakes.kind_of(location)
        if kind is not None:
            return partial(lakes.open_folder, location, kind)
        listed = _list_files(location, recursive=True)
        infos = _visible(listed, location)
        if not infos:
            raise InvalidArgumentError(
                f"the folder {name!r} holds no file that can be read ({KNOWN})."
            )
        lakes.refuse_files(location, infos, listed)
        return _files_below(location, infos)
    if file_type == FileType.NotFound:
        looked = "" if "://" in name else f" (looked for in {str(Path.cwd())!r})"
        raise InvalidArgumentError(f"there is no file {name!r}{looked}. Check the path.")
    if lakes.is_iceberg_metadata(location):
        return partial(lakes.open_metadata_file, location)
    lakes.refuse_file(location)
    return [_File(location, None, {})]


def _files_below(folder: Location, infos: list[FileInfo]) -> list[_File]:
    files = [folder.inside(info.path) for info in infos]
    return [
        _File(file, info.size, constants)
        for file, info, constants in zip(files, infos, _partitions(files, folder), strict=True)
    ]


def _split_pattern(name: str) -> tuple[str, str]:
    """Split a path into a folder (or file) and the pattern below it."""
    start = name.find("://") + 3 if "://" in name else 0
    magic = _MAGIC.search(name, start)
    if magic is None:
        return name, ""
    cut = name.rfind("/", start, magic.start()) + 1
    if cut <= start and start:
        raise InvalidArgumentError(f"{name!r}: a pattern cannot be the name of a server or bucket.")
    return (name[:cut] or "./"), name[cut:]


def _matching(listed: list[FileInfo], folder: Location, pattern: str) -> list[FileInfo]:
    matches = re.compile(_as_expression(pattern)).fullmatch
    start = _prefix(folder)
    return [info for info in listed if matches(info.path.removeprefix(start))]


def _prefix(folder: Location) -> str:
    return folder.path if folder.path.endswith("/") else folder.path + "/"


def _as_expression(pattern: str) -> str:
    """Translate a glob: `**` is any number of folders, `*` and `?` stay within a name."""
    expression = ""
    rest = pattern
    while rest:
        if rest.startswith("**/"):
            expression, rest = expression + "(?:[^/]+/)*", rest[3:]
        elif rest.startswith("**"):
            expression, rest = expression + ".*", rest[2:]
        elif rest[0] == "*":
            expression, rest = expression + "[^/]*", rest[1:]
        elif rest[0] == "?":
            expression, rest = expression + "[^/]", rest[1:]
        elif rest[0] == "[" and "]" in rest[2:]:
            end = rest.index("]", 2)
            inside = rest[1:end].replace("\\", r"\\").replace("[", r"\[")
            expression += f"[{'^' + inside[1:] if inside[0] == '!' else inside}]"
            rest = rest[end + 1 :]
        else:
            expression, rest = expression + re.escape(rest[0]), rest[1:]
    return expression


def _visible(listed: list[FileInfo], folder: Location) -> list[FileInfo]:
    """Return a folder's files; names that begin with a dot or an underscore are left out."""
    start = _prefix(folder)
    return [
        info
        for info in listed
        if not any(part[0] in "._" for part in info.path.removeprefix(start).split("/"))
    ]


def _list_files(folder: Location, *, recursive: bool) -> list[FileInfo]:
    from pyarrow.fs import FileSelector, FileType

    selector = FileSelector(folder.path, allow_not_found=True, recursive=recursive)
    infos = folder.filesystem.get_file_info(selector)
    return sorted((info for info in infos if info.type == FileType.File), key=lambda i: i.path)


def _open_many(found: list[_File], name: str, scan: Scan, rows: int) -> Opened:
    formats = {file_format_of(file.location) for file in found}
    if len(formats) > 1:
        raise InvalidArgumentError(
            f"{name!r} holds files of several formats ({', '.join(sorted(formats))}). "
            f"Name those to read, such as {name.rstrip('/') + '/**/*.parquet'!r}."
        )
    if formats & {"csv", "json"}:
        # Engines write an empty file for a part without rows.
        found = [file for file in found if file.size != 0] or found[:1]
    files = [file.location for file in found]
    if formats == {"csv"}:
        # They are one table, so every value of every file says what a column is.
        types = csv_files.find_column_types(files, scan.text_options)
        scan.notes.extend(types.notes)
        scan = replace(scan, text_types=types)

    def opened(index: int) -> Opened:
        with wrap_read_errors(f"the file {files[index].name!r}"):
            return open_file(files[index], scan, rows, found[index].constants)

    schema, head = opened(0)

    def batches() -> Iterator[pa.RecordBatch]:
        known = {field.name: (field.type, files[0].name) for field in schema}
        for index, file in enumerate(files):
            file_schema, file_batches = (schema, head) if index == 0 else opened(index)
            _refuse_other_columns(known, file_schema, file.name)
            row = 0
            while True:
                with wrap_read_errors(f"the file {file.name!r}", row):
                    record_batch = next(file_batches, None)
                if record_batch is None:
                    break
                yield record_batch.select(schema.names)
                row += record_batch.num_rows

    return schema, batches()


def _refuse_other_columns(
    known: dict[str, tuple[pa.DataType, str]], schema: pa.Schema, name: str
) -> None:
    for column, (arrow_type, before) in known.items():
        if column not in schema.names:
            raise InvalidArgumentError(
                f"the file {name!r} has no column {column!r}, which {before!r} has. Give every "
                "file the same columns, or name those to read with columns=. Nothing was sent."
            )
        now = schema.field(column).type
        if not compatible_types(arrow_type, now):
            raise InvalidArgumentError(
                f"column {column!r} is {now} in the file {name!r}, and {arrow_type} in {before!r}. "
                "Make them alike. Nothing was sent."
            )
        if pa.types.is_null(arrow_type):
            known[column] = (now, name)
    more = [column for column in schema.names if column not in known]
    if more:
        first = next(iter(known.values()))[1]
        raise InvalidArgumentError(
            f"the file {name!r} has a column {more[0]!r} that {first!r} does not have. Give every "
            "file the same columns, or name those to read with columns=. Nothing was sent."
        )


def _partitions(files: list[Location], base: Location) -> list[dict[str, pa.Scalar]]:
    """Return the values that the folders' names give each file, `year=2013/month=1`."""
    start = _prefix(base)
    texts: list[dict[str, str | None]] = []
    for file in files:
        values: dict[str, str | None] = {}
        for part in file.path.removeprefix(start).split("/")[:-1]:
            name, equals, value = part.partition("=")
            if equals and name:
                text = unquote(value)
                values[unquote(name)] = None if text == _NO_VALUE else text
        texts.append(values)
        if values.keys() != texts[0].keys():
            raise InvalidArgumentError(
                f"the folders of {file.name!r} name the columns {sorted(values)}, and those of "
                f"{files[0].name!r} {sorted(texts[0])}. They must be the same."
            )
    partitions: list[dict[str, pa.Scalar]] = [{} for _ in files]
    for name in texts[0]:
        column = [values[name] for values in texts]
        # 07 is a text: as a number it would not be what was written.
        is_integer = all(text is None or _INTEGER.fullmatch(text) for text in column)
        arrow_type = pa.int64() if is_integer else pa.string()
        for partition, written in zip(partitions, column, strict=True):
            number = int(written) if is_integer and written is not None else None
            partition[name] = pa.scalar(number if is_integer else written, arrow_type)
    return partitions
