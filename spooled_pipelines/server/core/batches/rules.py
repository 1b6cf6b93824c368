"""What is refused about batches, their generations, parts and chunks: the same for every store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import repeat

from spooled_pipelines.server.core.batches.records import (
    BatchOpening,
    Chunk,
    ExpectedParts,
    PartRecord,
    PayloadSchema,
)
from spooled_pipelines.server.core.errors import RefusedError, conflict, not_found
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.jobs.rules import HELD

# So long after it was last heard of, an upload is taken for gone: a client tries for a minute to
# get through, and may take another one to notice that it does not.
UPLOAD_GONE_MS = 120_000
# So many names in a message; `ListParts` tells all.
_NAMED = 10


def other_queue(opening: BatchOpening, queue_name: str) -> RefusedError:
    """Return the refusal where a batch is on another queue."""
    return conflict(
        f"batch {opening.batch_id!r} is on queue {queue_name!r}, not {opening.queue_name!r}; "
        "use that queue, or another batch_id"
    )


def check_key_name(opening: BatchOpening, key_name: str) -> None:
    """Raise RefusedError where the keys of rows are made of another name than the queue's."""
    if opening.key_name not in ("", key_name):
        raise conflict(
            f"queue {opening.queue_name!r} was renamed: keys of its rows are made of "
            f"{key_name!r}, got {opening.key_name!r}; the same call again does it right"
        )


def superseded(batch_id: str, meant: int, newest: int) -> RefusedError:
    """Return the refusal where a batch's newest generation is not the one that was meant."""
    if meant > newest:
        return conflict(
            f"batch {batch_id!r} has no generation {meant} yet, the newest is {newest}; "
            "open it first"
        )
    return conflict(
        f"batch {batch_id!r} has begun again: generation {meant} was meant, and the newest is "
        f"{newest}, whose sender sends the rows now"
    )


def named_schema(batch_id: str, generation: int, schema: bytes) -> PayloadSchema:
    """Return a schema with its number, which no other schema and no other batch has."""
    digest = sha256(f"{batch_id}:{generation}:".encode() + schema).digest()
    # 0 is the schema of the results, and a column holds 63 bits.
    return PayloadSchema(int.from_bytes(digest[:8], "big") >> 1 or 1, schema)


def no_schema(job_id: str) -> RefusedError:
    """Return the refusal where a job, if there is one, came without a schema."""
    return not_found(f"there is no job {job_id!r} whose payload came with a schema")


def no_batch_of_job(job_id: str) -> RefusedError:
    """Return the refusal where a job, if there is one, is not a batch's own."""
    return not_found(f"there is no job {job_id!r} that a batch has made")


def uploads_open(batch_id: str, part_id: str = "") -> RefusedError:
    """Return the refusal of a seal while other uploads are not finished."""
    what = f"part {part_id!r} of batch {batch_id!r}" if part_id else f"batch {batch_id!r}"
    return conflict(
        f"another upload of {what} brings other rows and is not finished: it goes on, or was heard "
        f"of less than {UPLOAD_GONE_MS // 1000} s ago; let it end, and call again"
    )


def other_rows(chunk: Chunk) -> RefusedError:
    """Return the refusal where a chunk of this number is stored, and has other rows."""
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


def when_due(scheduled: Sequence[int | None] | None, now: int) -> list[int | None] | None:
    """Return until when each row waits; None where none has a schedule."""
    if scheduled is None:
        return None
    return [moment if moment is not None and moment > now else None for moment in scheduled]


def due_of_chunk(chunk: Chunk, now: int) -> list[int | None] | None:
    """Return the same of a chunk, where rows with a limit key are held until they are let out."""
    due = when_due(chunk.scheduled_at, now)
    if chunk.limit_keys is None:
        return due
    moments: Iterable[int | None] = repeat(None) if due is None else due
    pairs = zip(chunk.limit_keys, moments, strict=False)
    return [HELD if moment is None and key is not None else moment for key, moment in pairs]


def status_when_due(due: int | None) -> int:
    """Return the status of a new job that is due then."""
    return Status.PENDING if due is None or due == HELD else Status.SCHEDULED


def why_not_complete(
    batch_id: str, parts: Sequence[PartRecord], expected: ExpectedParts
) -> RefusedError | None:
    """Return the refusal that names what is missing before the batch can be sealed, if anything."""
    finished = {part.part_id for part in parts if part.finished}
    if expected.part_ids:
        missing = sorted(set(expected.part_ids) - finished)
        return (
            _missing(batch_id, len(finished), f"missing are {_names(missing)}") if missing else None
        )
    unfinished = sorted(part.part_id for part in parts if not part.finished)
    found = len(finished) + len(unfinished)
    some = f"begun but not finished are {_names(unfinished)}" if unfinished else ""
    if expected.count is not None and found != expected.count:
        if found > expected.count:
            some = f"they are {_names(sorted(part.part_id for part in parts))}; name those meant"
        return _missing(batch_id, len(finished), f"expected are {expected.count}", some)
    return _missing(batch_id, len(finished), some) if unfinished else None


def _missing(batch_id: str, finished: int, *why: str) -> RefusedError:
    said = "; ".join(reason for reason in why if reason)
    return conflict(f"batch {batch_id!r} has {finished} finished parts, and {said}")


def _names(part_ids: Sequence[str]) -> str:
    named = ", ".join(repr(part_id) for part_id in part_ids[:_NAMED])
    more = len(part_ids) - _NAMED
    return named if more <= 0 else f"{named} and {more} more"
