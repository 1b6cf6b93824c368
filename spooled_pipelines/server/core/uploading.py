"""What is refused about chunks that come again: the same for every store."""

from __future__ import annotations

from spooled_pipelines.server.core.errors import RefusedError, conflict
from spooled_pipelines.server.core.records import Chunk


def other_rows(chunk: Chunk) -> RefusedError:
    """A chunk of this number is stored, and has other rows."""
    return conflict(
        f"chunk {chunk.number} of upload {chunk.upload_id!r} came before with other rows; "
        "count chunks up, or choose another upload_id"
    )


def check_whole(chunk: Chunk) -> None:
    """RefusedError where a chunk that is not stored yet comes without its payloads."""
    if len(chunk.payloads) < len(chunk.keys):
        raise conflict(
            f"chunk {chunk.number} of upload {chunk.upload_id!r} is not stored yet; "
            "send it with its payloads"
        )
