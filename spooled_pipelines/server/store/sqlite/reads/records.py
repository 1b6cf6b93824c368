"""Values as they are stored, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spooled_pipelines.server.core.jobs.idempotency_keys import digest_of, digests_of
from spooled_pipelines.server.core.jobs.records import JobRecord
from spooled_pipelines.server.store.rows import job_of_row, jobs_of_columns


def stored_key(key: str | None) -> str | bytes | None:
    """Return how an idempotency key is kept: 32 hex digits as 16 bytes."""
    return None if key is None else digest_of(key) or key


def stored_keys(keys: Sequence[str]) -> Sequence[str | bytes]:
    """Return `stored_key` of each, at once where all are hashes."""
    return digests_of(keys) or [digest_of(key) or key for key in keys]


def job_record(prefix: str, row: Sequence[Any], queue_name: str | None = None) -> JobRecord:
    """Return the job of a row, see `job_of_row`."""
    return job_of_row(prefix, row, _shown_key, queue_name)


def job_records(prefix: str, columns: Sequence[Sequence[Any]], queue_name: str) -> list[JobRecord]:
    """Return the jobs of rows by column, see `jobs_of_columns`."""
    return jobs_of_columns(prefix, columns, _shown_key, queue_name)


def _shown_key(stored: str | bytes | None) -> str | None:
    return stored.hex() if isinstance(stored, bytes) else stored
