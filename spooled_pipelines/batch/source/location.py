"""The location of a path or URI: a file system, and a file or folder in it."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from spooled_pipelines.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


class Location(NamedTuple):
    """A file or folder: its pyarrow file system, its path there, and its name for the user."""

    filesystem: FileSystem
    path: str
    name: str

    def open_stream(self) -> IO[bytes]:
        """Open its bytes from front to back, decompressed as its name says."""
        stream: IO[bytes] = self.filesystem.open_input_stream(self.path)
        return stream

    def open_file(self) -> pa.NativeFile:
        """Open its bytes, to be read at any position."""
        return self.filesystem.open_input_file(self.path)

    def state(self) -> tuple[int | None, int | None]:
        """Return its size and when it was changed last, as far as the file system knows."""
        info = self.filesystem.get_file_info(self.path)
        return info.size, info.mtime_ns

    def inside(self, path: str) -> Location:
        """Return a file below this folder."""
        name = path if self.name == self.path else self.name.rstrip("/") + path[len(self.path) :]
        return Location(self.filesystem, path, name)


def locate(name: str) -> Location:
    """Resolve a path or URI by pyarrow's own file systems, or else by fsspec's.

    Raises:
        InvalidArgumentError: neither knows the URI's scheme.
    """
    from pyarrow import fs

    if "://" not in name:
        return Location(fs.LocalFileSystem(), name, name)
    try:
        filesystem, path = fs.FileSystem.from_uri(name)
    except pa.ArrowInvalid as unknown:
        filesystem, path = _locate_by_fsspec(name, unknown)
    return Location(filesystem, path, name)


def brings_filesystem(data: object) -> bool:
    """Return whether this is a path of the kind that Airflow's ObjectStoragePath is."""
    return hasattr(data, "fs") and hasattr(data, "path") and hasattr(data, "protocol")


def location_of(path: Any) -> Location:
    """Return the location of a path that brings its own fsspec file system and its credentials."""
    from pyarrow import fs

    return Location(fs.PyFileSystem(fs.FSSpecHandler(path.fs)), path.path, str(path))


def _locate_by_fsspec(name: str, unknown: Exception) -> tuple[FileSystem, str]:
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
