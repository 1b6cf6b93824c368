"""Values as they are stored, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spooled_pipelines.server.core.idempotency_keys import digest_of
from spooled_pipelines.server.core.records import JobRecord
from spooled_pipelines.server.store.rows import JobRow

HASH_MARK, TEXT_MARK = b"h", b"t"
_KEY = JobRow._fields.index("idempotency_key")


def stored_key(key: str) -> bytes:
    """Return how an idempotency key is kept."""
    digest = digest_of(key)
    return TEXT_MARK + key.encode() if digest is None else HASH_MARK + digest


def job_record(prefix: str, row: Sequence[Any], queue_name: str | None = None) -> JobRecord:
    """Return the job of a row of `JobRow`'s columns; the queue's name where it has none."""
    job = JobRow._make(row)
    return job.record(prefix, _shown_key(row[_KEY]), queue_name)


def _shown_key(stored: bytes | None) -> str | None:
    if stored is None:
        return None
    return stored[1:].hex() if stored[:1] == HASH_MARK else stored[1:].decode()
