"""Tables in paths: one file, a glob, or a folder with or without partitions.

Many files are read one behind the other, as one table: they have to have the same columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from spooled_pipelines.batch.source import csv_files
from spooled_pipelines.batch.source.files import KNOWN, Location, kind_of, locate, open_file
from spooled_pipelines.batch.source.read_errors import readable
from spooled_pipelines.batch.source.row_filter import Selection
from spooled_pipelines.batch.source.type_compat import same_kind
from spooled_pipelines.errors import InvalidArgumentError

_MAGIC = re.compile(r"[*?\[]")
# What Hive calls a folder of rows without a value.
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")


def open_path(name: str, selection: Selection, rows: int) -> tuple[Any, Iterator[Any]]:
    """The schema and the record batches (of about `rows`) of what a path, glob or URI names."""
    return open_location(locate(_without_magic(name)[0]), name, selection, rows)


def open_location(
    location: Location, name: str, selection: Selection, rows: int
) -> tuple[Any, Iterator[Any]]:
    """The same below a location that was found already; `name` may go on with a glob there."""
    from pyarrow.fs import FileType

    selection.arrow_only(f"the file {name!r}")
    pattern = _without_magic(name)[1]
    if pattern and location.filesystem.get_file_info(location.path + pattern).type == FileType.File:
        # A file whose name only looks like a glob.
        location, pattern = location.inside(location.path + pattern), ""
    if pattern:
        files = _matching(location, pattern)
        if not files:
            raise InvalidArgumentError(f"no file matches {name!r}. Check the pattern.")
        return _many(files, location, selection, rows)
    found = location.filesystem.get_file_info(location.path).type
    if found == FileType.Directory:
        files = _below(location)
        if not files:
            raise InvalidArgumentError(
                f"the folder {name!r} holds no file that can be read ({KNOWN})."
            )
        return _many(files, location, selection, rows)
    if found == FileType.NotFound:
        looked = "" if "://" in name else f" (looked for in {str(Path.cwd())!r})"
        raise InvalidArgumentError(f"there is no file {name!r}{looked}. Check the path.")
    return open_file(location, selection, rows)


def _without_magic(name: str) -> tuple[str, str]:
    """The folder (or file) that surely is meant, and what of the path is a pattern below it."""
    start = name.find("://") + 3 if "://" in name else 0
    found = _MAGIC.search(name, start)
    if found is None:
        return name, ""
    cut = name.rfind("/", start, found.start()) + 1
    if cut <= start and start:
        raise InvalidArgumentError(f"{name!r}: a pattern cannot be the name of a server or bucket.")
    return (name[:cut] or "./"), name[cut:]


def _matching(folder: Location, pattern: str) -> list[Any]:
    matches = re.compile(_as_expression(pattern)).fullmatch
    deep = "/" in pattern or "**" in pattern
    start = _prefix(folder)
    return [
        info for info in _listed(folder, recursive=deep) if matches(info.path.removeprefix(start))
    ]


def _prefix(folder: Location) -> str:
    return folder.path if folder.path.endswith("/") else folder.path + "/"


def _as_expression(pattern: str) -> str:
    """`**` is any number of folders, `*` and `?` stay within a name."""
    made = ""
    rest = pattern
    while rest:
        if rest.startswith("**/"):
            made, rest = made + "(?:[^/]+/)*", rest[3:]
        elif rest.startswith("**"):
            made, rest = made + ".*", rest[2:]
        elif rest[0] == "*":
            made, rest = made + "[^/]*", rest[1:]
        elif rest[0] == "?":
            made, rest = made + "[^/]", rest[1:]
        elif rest[0] == "[" and "]" in rest[2:]:
            end = rest.index("]", 2)
            inside = rest[1:end].replace("\\", r"\\").replace("[", r"\[")
            made += f"[{'^' + inside[1:] if inside[0] == '!' else inside}]"
            rest = rest[end + 1 :]
        else:
            made, rest = made + re.escape(rest[0]), rest[1:]
    return made


def _below(folder: Location) -> list[Any]:
    """Every file of a folder, but for what begins with a dot or an underscore, as Hive has it."""
    start = _prefix(folder)
    return [
        info
        for info in _listed(folder, recursive=True)
        if not any(part[0] in "._" for part in info.path.removeprefix(start).split("/"))
    ]


def _listed(folder: Location, *, recursive: bool) -> list[Any]:
    from pyarrow.fs import FileSelector, FileType

    selector = FileSelector(folder.path, allow_not_found=True, recursive=recursive)
    found = folder.filesystem.get_file_info(selector)
    return sorted((info for info in found if info.type == FileType.File), key=lambda i: i.path)


def _many(
    infos: list[Any], base: Location, selection: Selection, rows: int
) -> tuple[Any, Iterator[Any]]:
    files = [base.inside(info.path) for info in infos]
    kinds = {kind_of(file) for file in files}
    if len(kinds) > 1:
        raise InvalidArgumentError(
            f"{base.name!r} holds files of several kinds ({', '.join(sorted(kinds))}). "
            f"Name those that are meant, such as {base.name.rstrip('/') + '/**/*.parquet'!r}."
        )
    if kinds & {"csv", "json"}:
        # Engines write an empty file for a part without rows.
        written = [info.path for info in infos if info.size != 0]
        files = [file for file in files if file.path in written] or files[:1]
    partitions = _partitions(files, base)
    if kinds == {"csv"}:
        # They are one table, so every value of every file says what a column is.
        types = csv_files.find_column_types(files, selection.text_options)
        selection.notes.extend(types.notes)
        selection = replace(selection, text_types=types)

    def opened(place: int) -> tuple[Any, Iterator[Any]]:
        with readable(f"the file {files[place].name!r}"):
            return open_file(files[place], selection, rows, partitions[place])

    schema, head = opened(0)

    def batches() -> Iterator[Any]:
        known = {field.name: (field.type, files[0].name) for field in schema}
        for place, file in enumerate(files):
            here, found = (schema, head) if place == 0 else opened(place)
            _refuse_other_columns(known, here, file.name)
            row = 0
            while True:
                with readable(f"the file {file.name!r}", row):
                    batch = next(found, None)
                if batch is None:
                    break
                yield batch.select(schema.names)
                row += batch.num_rows

    return schema, batches()


def _refuse_other_columns(known: dict[str, tuple[Any, str]], schema: Any, name: str) -> None:
    for column, (kind, before) in known.items():
        if column not in schema.names:
            raise InvalidArgumentError(
                f"the file {name!r} has no column {column!r}, which {before!r} has. Give every "
                "file the same columns, or name those to read with columns=. Nothing was sent."
            )
        now = schema.field(column).type
        if not same_kind(kind, now):
            raise InvalidArgumentError(
                f"column {column!r} is {now} in the file {name!r}, and {kind} in {before!r}. "
                "Make them alike. Nothing was sent."
            )
        if pa.types.is_null(kind):
            known[column] = (now, name)
    more = [column for column in schema.names if column not in known]
    if more:
        first = next(iter(known.values()))[1]
        raise InvalidArgumentError(
            f"the file {name!r} has a column {more[0]!r}, which {first!r} has not. Give every file "
            "the same columns, or name those to read with columns=. Nothing was sent."
        )


def _partitions(files: list[Location], base: Location) -> list[dict[str, Any]]:
    """What the folders' names say of each file, `year=2013/month=1`: name -> Arrow scalar."""
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
                f"{files[0].name!r} {sorted(texts[0])}. They have to be the same."
            )
    made: list[dict[str, Any]] = [{} for _ in files]
    for name in texts[0]:
        column = [values[name] for values in texts]
        # 07 is a text: as a number it would not be what was written.
        whole = all(text is None or _WHOLE.fullmatch(text) for text in column)
        kind = pa.int64() if whole else pa.string()
        for scalars, given in zip(made, column, strict=True):
            scalars[name] = pa.scalar(int(given) if whole and given is not None else given, kind)
    return made
