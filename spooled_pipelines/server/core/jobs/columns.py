"""What became of jobs, by column: what reading the results of many of them takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from spooled_pipelines.server.core.jobs.records import JobRecord


class JobColumns(NamedTuple):
    """Some jobs of a batch; `after` is the place to go on from, None at the end."""

    seqs: Sequence[int]
    statuses: Sequence[int]
    completed_at: Sequence[int | None]
    last_errors: Sequence[str | None]
    schema_ids: Sequence[int | None]
    results: Sequence[bytes | None]
    payloads: Sequence[bytes | None]
    after: int | None


def columns_of_rows(rows: Sequence[tuple[Any, ...]], after: int | None) -> JobColumns:
    """Return the columns of rows that have them in this order."""
    columns = zip(*rows, strict=True) if rows else ((),) * (len(JobColumns._fields) - 1)
    return JobColumns._make((*columns, after))


def columns_of_jobs(jobs: Sequence[JobRecord], after: int | None) -> JobColumns:
    """Return the columns of jobs."""
    rows = [
        (
            *(job.seq, job.status, job.completed_at, job.last_error, job.schema_id),
            *(job.result, job.payload),
        )
        for job in jobs
    ]
    return columns_of_rows(rows, after)
