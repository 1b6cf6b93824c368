"""How many of a batch's jobs may be unsettled at once (`max_outstanding`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

from spooled_pipelines.batch.staging.chunks import Chunk
from spooled_pipelines.errors import InvalidArgumentError

# Chunks that are smaller than the limit, so that some are done while others are on their way.
_CHUNKS_IN_LIMIT = 4


def check_max_outstanding(limit: int | None) -> None:
    """InvalidArgumentError where it is no number of jobs."""
    if limit is None:
        return
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InvalidArgumentError(
            f"max_outstanding is {limit!r}, and must be a number of jobs of at least 1"
        )


class Outstanding:
    """An upper bound: jobs that were open when the server was asked, and rows sent since."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open = 0

    def learned(self, open_jobs: int) -> None:
        """The server says how many are open, and no row is on its way to it."""
        self._open = open_jobs

    def sent(self, rows: int) -> None:
        """Each may have become an open job."""
        self._open += rows

    def admits(self, rows: int) -> bool:
        """Whether so many rows more stay within the limit."""
        return self._open + rows <= self._limit


def within(limit: int | None, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The same rows in chunks that suit the limit."""
    if limit is None:
        yield from chunks
        return
    longest = max(1, limit // _CHUNKS_IN_LIMIT)
    numbers = count()
    for chunk in chunks:
        for start in range(0, len(chunk.rows), longest):
            yield replace(
                chunk,
                number=next(numbers),
                rows=chunk.rows.slice(start, longest),
                keys=chunk.keys.slice(start, longest),
                pieces=chunk.pieces.slice(start, longest),
            )
