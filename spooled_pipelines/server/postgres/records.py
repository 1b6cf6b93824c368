"""Values as they are stored, and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from spooled_pipelines.server import ids
from spooled_pipelines.server.records import JobRecord

_HEX_KEY = re.compile("[0-9a-f]{32}")
HASH_MARK, TEXT_MARK = b"h", b"t"
# What an answer holds at most: a client takes messages of 4 MiB unless it is told otherwise.
ANSWER_BYTES = 3 << 20


def stored_key(key: str) -> bytes:
    """How an idempotency key is kept."""
    if _HEX_KEY.fullmatch(key):
        return HASH_MARK + bytes.fromhex(key)
    return TEXT_MARK + key.encode()


def _shown_key(stored: bytes | None) -> str | None:
    if stored is None:
        return None
    if stored[:1] == HASH_MARK:
        return stored[1:].hex()
    return stored[1:].decode()


def job_record(prefix: str, row: Sequence[Any]) -> JobRecord:
    """A row of the queries that select whole jobs."""
    record = JobRecord(*row)
    error: bytes | None = row[15]
    return record._replace(
        job_id=ids.job_id(prefix, record.seq),
        last_error=None if error is None else error.decode(),
        idempotency_key=_shown_key(row[16]),
    )
