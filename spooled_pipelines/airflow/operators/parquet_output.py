"""Ledger and results as Parquet files, on this machine or in object storage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from urllib.parse import urlsplit
from urllib.request import url2pathname

from airflow.sdk import ObjectStoragePath

from spooled_pipelines.errors import InvalidArgumentError

if TYPE_CHECKING:
    import pyarrow as pa

OutputPath: TypeAlias = str | Path | ObjectStoragePath


class WrittenFile(NamedTuple):
    """Where a file is, as it was asked for, and how many rows it has."""

    path: str
    rows: int


def check_output_path(path: object, argument: str) -> None:
    """Raise InvalidArgumentError unless the argument can name a file."""
    if not isinstance(path, (str, Path, ObjectStoragePath)) or not str(path):
        raise InvalidArgumentError(
            f"{argument} must be the path or URI of a Parquet file to write, got {path!r}"
        )


def write_parquet(reader: pa.RecordBatchReader, path: OutputPath) -> WrittenFile:
    """Write all of it in flat memory; the file appears whole or not at all.

    A URI is written through Airflow's object storage: ``s3://connection@bucket/results.parquet``.
    Folders of this machine are made.
    """
    from spooled_pipelines.batch.outcome.writers import write_to
    from spooled_pipelines.batch.source.location import locate, location_of

    text = str(path)
    parts = urlsplit(text)
    if len(parts.scheme) > 1 and parts.scheme != "file":
        target = path if isinstance(path, ObjectStoragePath) else ObjectStoragePath(text)
        return WrittenFile(text, write_to(location_of(target), "parquet", reader))
    local = Path(url2pathname(parts.path) if parts.scheme == "file" else text)
    local.parent.mkdir(parents=True, exist_ok=True)
    return WrittenFile(str(local), write_to(locate(str(local)), "parquet", reader))
