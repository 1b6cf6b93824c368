"""Ledger and results as files, on this machine or in object storage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from urllib.parse import urlsplit
from urllib.request import url2pathname

from airflow.sdk import ObjectStoragePath

from spooled_pipelines.errors import InvalidArgumentError

if TYPE_CHECKING:
    import pyarrow as pa

    from spooled_pipelines.batch.source.location import Location

OutputPath: TypeAlias = str | Path | ObjectStoragePath
# What a ledger is read from again.
LEDGER_FORMATS = ("parquet", "arrow")


class WrittenFile(NamedTuple):
    """Where a file is, as it was asked for, and how many rows it has."""

    path: str
    rows: int


def check_output_path(path: object, argument: str) -> None:
    """Raise InvalidArgumentError unless the argument can name a file."""
    if not isinstance(path, (str, Path, ObjectStoragePath)) or not str(path):
        raise InvalidArgumentError(
            f"{argument} must be the path or URI of a file to write, got {path!r}"
        )


def check_output_format(path: OutputPath, formats: tuple[str, ...] | None = None) -> None:
    """Raise InvalidArgumentError unless the file's name says a format that is written.

    This loads pyarrow, so it is for a task that runs.
    """
    from spooled_pipelines.batch.outcome.writers import output_format

    location = _locate(path)
    output_format(location) if formats is None else output_format(location, formats)


def write_file(
    reader: pa.RecordBatchReader, path: OutputPath, *, escape_formulas: bool = True
) -> WrittenFile:
    """Write all of it in flat memory, in the format that the file's name says.

    The file appears whole or not at all. A URI is written through Airflow's object storage:
    ``s3://connection@bucket/results.parquet``. Folders of this machine are made.
    """
    from pyarrow.fs import LocalFileSystem

    from spooled_pipelines.batch.outcome.writers import output_format, write_to

    location = _locate(path)
    file_format = output_format(location)
    if isinstance(location.filesystem, LocalFileSystem):
        Path(location.path).parent.mkdir(parents=True, exist_ok=True)
    return WrittenFile(
        location.name, write_to(location, file_format, reader, escape_formulas=escape_formulas)
    )


def _locate(path: OutputPath) -> Location:
    from spooled_pipelines.batch.source.location import locate, location_of

    text = str(path)
    parts = urlsplit(text)
    if len(parts.scheme) > 1 and parts.scheme != "file":
        target = path if isinstance(path, ObjectStoragePath) else ObjectStoragePath(text)
        return location_of(target)._replace(name=text)
    return locate(url2pathname(parts.path) if parts.scheme == "file" else text)
