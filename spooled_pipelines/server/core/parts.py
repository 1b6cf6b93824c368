"""A batch that comes in parts: when all of it is there. The same for every store."""

from __future__ import annotations

from collections.abc import Sequence

from spooled_pipelines.server.core.errors import RefusedError, conflict
from spooled_pipelines.server.core.records import ExpectedParts, PartRecord

# So many names in a message; `ListParts` tells all.
_NAMED = 10


def check_complete(batch_id: str, parts: Sequence[PartRecord], expected: ExpectedParts) -> None:
    """RefusedError FAILED_PRECONDITION names what is missing before the batch can be sealed."""
    finished = {part.part_id for part in parts if part.finished}
    if expected.part_ids:
        missing = sorted(set(expected.part_ids) - finished)
        if missing:
            raise _missing(batch_id, len(finished), f"missing are {_names(missing)}")
        return
    unfinished = sorted(part.part_id for part in parts if not part.finished)
    found = len(finished) + len(unfinished)
    if expected.count is not None and found != expected.count:
        some = f"begun but not finished are {_names(unfinished)}" if unfinished else ""
        if found > expected.count:
            some = f"they are {_names(sorted(part.part_id for part in parts))}; name those meant"
        raise _missing(batch_id, len(finished), f"expected are {expected.count}", some)
    if unfinished:
        some = f"begun but not finished are {_names(unfinished)}"
        raise _missing(batch_id, len(finished), some)


def _missing(batch_id: str, finished: int, *why: str) -> RefusedError:
    said = "; ".join(reason for reason in why if reason)
    return conflict(f"batch {batch_id!r} has {finished} finished parts, and {said}")


def _names(part_ids: Sequence[str]) -> str:
    named = ", ".join(repr(part_id) for part_id in part_ids[:_NAMED])
    more = len(part_ids) - _NAMED
    return named if more <= 0 else f"{named} and {more} more"
