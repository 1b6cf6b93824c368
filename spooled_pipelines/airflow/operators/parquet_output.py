"""Ledger and results as Parquet files, on this machine or in object storage."""

from __future__ import annotations

import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from airflow.sdk import ObjectStoragePath

from spooled_pipelines.errors import InvalidArgumentError


def check_location(location: Any, argument: str) -> None:
    """InvalidArgumentError where it is no place for a Parquet file."""
    if not isinstance(location, (str, Path, ObjectStoragePath)) or not str(location):
        raise InvalidArgumentError(
            f"{argument} is {location!r}, and must be the path or URI of a Parquet file to write"
        )


class Written(NamedTuple):
    """Where a file is, as it was asked for, and how many rows it has."""

    path: str
    rows: int


def write_parquet(reader: Any, location: str | Path | ObjectStoragePath) -> Written:
    """Write all of a RecordBatchReader there, in flat memory; the file is whole or not there.

    A URI is written through Airflow's object storage: ``s3://connection@bucket/results.parquet``.
    """
    from spooled_pipelines.batch.writers import write_as

    text = str(location)
    parts = urlsplit(text)
    if len(parts.scheme) > 1 and parts.scheme != "file":
        target = location if isinstance(location, ObjectStoragePath) else ObjectStoragePath(text)
        try:
            with target.open("wb") as file:  # type: ignore[no-untyped-call]  # Airflow's is not
                return Written(text, write_as("parquet", reader, file))
        except BaseException:
            # Object stores show a file once it is closed, whatever it was closed for.
            with suppress(Exception):
                target.unlink()
            raise
    path = Path(url2pathname(parts.path) if parts.scheme == "file" else text)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with beside.open("wb") as file:
            rows = write_as("parquet", reader, file)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return Written(str(path), rows)
