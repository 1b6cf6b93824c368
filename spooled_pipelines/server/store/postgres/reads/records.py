"""Values as they are stored, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spooled_pipelines.server.core.jobs.idempotency_keys import digest_of
from spooled_pipelines.server.core.jobs.records import JobRecord
from spooled_pipelines.server.store.rows import job_of_row, jobs_of_columns

HASH_MARK, TEXT_MARK = b"h", b"t"


def stored_key(key: str) -> bytes:
    """Return how an idempotency key is kept."""
    digest = digest_of(key)
    return TEXT_MARK + key.encode() if digest is None else HASH_MARK + digest


def job_record(prefix: str, row: Sequence[Any], queue_name: str | None = None) -> JobRecord:
    """Return the job of a row, see `job_of_row`."""
    return job_of_row(prefix, row, _shown_key, queue_name)


def job_records(prefix: str, columns: Sequence[Sequence[Any]], queue_name: str) -> list[JobRecord]:
    """Return the jobs of rows by column, see `jobs_of_columns`."""
    return jobs_of_columns(prefix, columns, _shown_key, queue_name)


def _shown_key(stored: bytes | None) -> str | None:
    if stored is None:
        return None
    return stored[1:].hex() if stored[:1] == HASH_MARK else stored[1:].decode()
