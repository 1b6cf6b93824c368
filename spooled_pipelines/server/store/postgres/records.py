"""Values as they are stored, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.idempotency_keys import digest_of
from spooled_pipelines.server.core.records import JobRecord

HASH_MARK, TEXT_MARK = b"h", b"t"


def stored_key(key: str) -> bytes:
    """How an idempotency key is kept."""
    digest = digest_of(key)
    return TEXT_MARK + key.encode() if digest is None else HASH_MARK + digest


def _shown_key(stored: bytes | None) -> str | None:
    if stored is None:
        return None
    if stored[:1] == HASH_MARK:
        return stored[1:].hex()
    return stored[1:].decode()


def job_record(prefix: str, row: Sequence[Any], queue_name: str | None = None) -> JobRecord:
    """A row of the queries that select whole jobs; the queue's name where the row has none."""
    error: bytes | None = row[15]
    name = row[2] if queue_name is None else queue_name
    shown = None if error is None else error.decode()
    first = (row[0], ids.job_id(prefix, row[0]), name)
    values: tuple[Any, ...] = (*first, *row[3:15], shown, _shown_key(row[16]), *row[17:])
    return JobRecord(*values)
