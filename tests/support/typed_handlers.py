"""Handlers that note what their jobs hold; for processes as well, which import them by name."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa

from spooled_pipelines import Job
from spooled_pipelines.worker import batch_handler

AT = datetime(2013, 1, 31, 5, tzinfo=timezone.utc)


def one_row(job: Job) -> pa.StructScalar:
    value = {"at": job.row["at"], "raw": b"\xff", "large": 2**60}
    kinds = [("at", pa.timestamp("us", "UTC")), ("raw", pa.binary()), ("large", pa.int64())]
    return pa.scalar(value, pa.struct(kinds))


def note(folder: str, name: str, value: Any) -> None:
    (Path(folder) / name).write_bytes(pickle.dumps(value))


def by_job(job: Job) -> None:
    note(job.payload["folder"], str(job.payload["row"]), job.row)


async def awaited(job: Job) -> None:
    by_job(job)


@batch_handler(max_rows=100, max_wait=0.5)
def by_rows(rows: pa.RecordBatch) -> None:
    note(rows["folder"][0].as_py(), f"rows {rows['row'][0].as_py()}", rows)


@dataclass
class Flight:
    row: int
    folder: str
    at: datetime
    day: str


def by_dataclass(flight: Flight) -> None:
    note(flight.folder, str(flight.row), flight)
