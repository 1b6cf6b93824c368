"""Lake tables: folders whose files are a table only together with its log.

The files of a Delta, Iceberg or Hudi table hold deleted and replaced rows, too. Delta and Iceberg
tables are read by their own libraries, as one version; what cannot be read so is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, cast

from spooled_pipelines.batch.source.location import Location
from spooled_pipelines.batch.source.row_filter import Opened, Scan
from spooled_pipelines.errors import InvalidArgumentError

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyarrow.fs import FileInfo
    from pyiceberg.table import Table

_Kind = Literal["Delta", "Iceberg", "Hudi"]
_MARKERS: dict[_Kind, str] = {"Delta": "_delta_log", "Hudi": ".hoodie", "Iceberg": "metadata"}
_ICEBERG_METADATA = re.compile(r"(?:v\d+|\d+-[0-9a-f-]{36})(?:\.gz)?\.metadata\.json(?:\.gz)?")
CATALOG_SCHEME = "iceberg://"


def is_iceberg_metadata(location: Location) -> bool:
    """Return whether this is the metadata file of an Iceberg table, by its path."""
    path = PurePosixPath(location.path)
    return path.parent.name == "metadata" and bool(_ICEBERG_METADATA.fullmatch(path.name))


def kind_of(folder: Location) -> _Kind | None:
    """Return which lake table a folder is; None: it is not one."""
    from pyarrow.fs import FileSelector, FileType

    base = folder.path.rstrip("/")
    kinds, paths = zip(*((kind, f"{base}/{name}") for kind, name in _MARKERS.items()), strict=True)
    for kind, info in zip(kinds, folder.filesystem.get_file_info(list(paths)), strict=True):
        if info.type != FileType.Directory:
            continue
        if kind != "Iceberg":
            return cast("_Kind", kind)
        files = folder.filesystem.get_file_info(FileSelector(info.path, allow_not_found=True))
        if any(_ICEBERG_METADATA.fullmatch(file.base_name) for file in files):
            return "Iceberg"
    return None


def open_folder(folder: Location, kind: _Kind, scan: Scan, rows: int) -> Opened:
    """Open the lake table that a folder is.

    Raises:
        InvalidArgumentError: it cannot be read as one version.
    """
    if kind == "Hudi":
        raise InvalidArgumentError(
            f"the folder {folder.name!r} is a Hudi table, and Hudi is not supported: its files "
            "alone hold deleted and replaced rows, too. Read it with a library that knows Hudi, "
            "such as Spark, and pass the DataFrame or a Parquet file of it. Nothing was sent."
        )
    address = _address_of(folder, kind)
    if kind == "Delta":
        _require("deltalake", kind, folder.name)
        from spooled_pipelines.batch.source import delta

        return delta.open_address(address, scan, rows)
    return open_iceberg_metadata(folder, address, scan, rows)


def open_iceberg_metadata(location: Location, address: str, scan: Scan, rows: int) -> Opened:
    """Open an Iceberg table by its folder, or by the metadata file that says what it holds."""
    _require("pyiceberg", "Iceberg", location.name)
    from spooled_pipelines.batch.source import iceberg

    return iceberg.open_metadata(location, address, scan, rows)


def open_metadata_file(location: Location, scan: Scan, rows: int) -> Opened:
    """Open the Iceberg table of a metadata file."""
    return open_iceberg_metadata(location, _address_of(location, "Iceberg"), scan, rows)


def open_from_catalog(name: str, scan: Scan, rows: int) -> Opened:
    """Open `iceberg://CATALOG/NAMESPACE.TABLE`, by the catalogs that pyiceberg is configured for.

    Raises:
        InvalidArgumentError: there is no such catalog or table.
    """
    catalog, slash, table = name.removeprefix(CATALOG_SCHEME).partition("/")
    if not (catalog and slash and "." in table):
        raise InvalidArgumentError(
            f"the name of an Iceberg table must be iceberg://CATALOG/NAMESPACE.TABLE, got {name!r}."
        )
    _require("pyiceberg", "Iceberg", name)
    from spooled_pipelines.batch.source import iceberg

    return iceberg.open_from_catalog(catalog, table, scan, rows)


def from_delta(table: DeltaTable, scan: Scan, rows: int) -> Opened:
    """Open a DeltaTable of the library deltalake."""
    from spooled_pipelines.batch.source import delta

    return delta.open_table(table, scan, rows)


def from_iceberg(table: Table, scan: Scan, rows: int) -> Opened:
    """Open a Table of the library pyiceberg."""
    from spooled_pipelines.batch.source import iceberg

    return iceberg.open_table(table, scan, rows)


def refuse_files(base: Location, chosen: Iterable[FileInfo], listed: Iterable[FileInfo]) -> None:
    """Refuse files that belong to a lake table; `listed` is all that is known to be below `base`.

    Raises:
        InvalidArgumentError: one of the chosen files does.
    """
    tables = dict(filter(None, map(_table_of_log, listed)))
    paths = [info.path for info in chosen]
    for path in paths:
        for folder, kind in tables.items():
            if path.startswith(folder + "/"):
                raise _inside(base.inside(path).name, kind, base.inside(folder).name)
    if any(path.endswith((".parquet", ".pq")) for path in paths):
        _refuse_below_table(base)


def refuse_file(file: Location) -> None:
    """Refuse a single file that belongs to a lake table."""
    if file.path.endswith((".parquet", ".pq")):
        _refuse_below_table(file)


def _refuse_below_table(location: Location) -> None:
    for folder in _folders_above(location):
        kind = None
        # Who may read a folder need not be allowed to see the one that it is in, and each file
        # system has errors of its own for that.
        with suppress(Exception):
            kind = kind_of(folder)
        if kind is not None:
            raise _inside(location.name, kind, folder.name)


def _folders_above(location: Location) -> Iterator[Location]:
    """Yield the folders that hold a file or folder, itself included, from the inside out."""
    from pyarrow.fs import LocalFileSystem

    if location.name.startswith(("http://", "https://")):
        # There are no folders there that could be listed.
        return
    if isinstance(location.filesystem, LocalFileSystem):
        path = Path(location.path).absolute()
        for local in (path, *path.parents):
            yield Location(location.filesystem, str(local), str(local))
        return
    inner = PurePosixPath(location.path)
    for level, remote in enumerate([inner, *inner.parents]):
        if remote.name:
            name = location.name.rstrip("/").rsplit("/", level)[0]
            yield Location(location.filesystem, str(remote), name)


def _table_of_log(info: FileInfo) -> tuple[str, _Kind] | None:
    path: str = info.path
    for kind, marker in _MARKERS.items():
        folder, found, rest = path.partition(f"/{marker}/")
        if found and (kind != "Iceberg" or _ICEBERG_METADATA.fullmatch(rest)):
            return folder, kind
    return None


def _inside(name: str, kind: _Kind, folder: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{name!r} is within the {kind} table {folder!r}, whose files hold deleted and replaced "
        "rows, too. Pass the folder of the table, and say what to read of it with where= and "
        "columns=. Nothing was sent."
    )


def _require(module: str, kind: _Kind, name: str) -> None:
    # Without importing it: a broken installation should say so itself.
    if find_spec(module) is None:
        raise InvalidArgumentError(
            f"reading the {kind} table {name!r} needs {module}: "
            f"pip install 'spooled-pipelines[{kind.lower()}]'. Nothing was sent."
        )


def _address_of(location: Location, kind: _Kind) -> str:
    """Return the path or URI by which a lake's own library finds what is at a location."""
    from pyarrow.fs import LocalFileSystem, PyFileSystem

    filesystem: Any = location.filesystem
    if isinstance(filesystem, PyFileSystem):
        inner = getattr(filesystem.handler, "fs", None)
        if "file" not in getattr(inner, "protocol", ()):
            opened = "DeltaTable(uri, storage_options={…})"
            if kind == "Iceberg":
                opened = "load_catalog(…).load_table(…)"
            raise InvalidArgumentError(
                f"the library of the {kind} table {location.name!r} has file systems of its own, "
                f"and does not know this one. Open it and pass that: {opened}. Nothing was sent."
            )
        return location.path
    if isinstance(filesystem, LocalFileSystem):
        return str(Path(location.path).absolute())
    return location.name
