"""Which jobs a worker runs, in a file that another process reads when the worker has died."""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Sequence

from spooled_pipelines.worker.jobs.lease_table import LeasedJob

# Of a region's text, in front of it.
_LENGTH_BYTES = 4
# An id and what separates it from the next.
_ID_BYTES = 40


class RunningLog:
    """A file with a region for each group of jobs that runs; written through shared memory.

    So it costs no system call, and what was written is there however the process ends.
    """

    def __init__(self, descriptor: int, groups: int, jobs_per_group: int) -> None:
        self._width = _LENGTH_BYTES + _ID_BYTES * jobs_per_group
        size = _LENGTH_BYTES + self._width * groups
        os.ftruncate(descriptor, size)
        self._memory = mmap.mmap(descriptor, size)
        self._memory[:_LENGTH_BYTES] = self._width.to_bytes(_LENGTH_BYTES, "little")
        self._free = deque(range(_LENGTH_BYTES, size, self._width))

    def begin(self, group: Sequence[LeasedJob]) -> int:
        """Note that a group runs; return its region, for `end`."""
        start = self._free.popleft()
        text = "\n".join([leased.job_id for leased in group]).encode()
        text = text[: self._width - _LENGTH_BYTES]
        first = start + _LENGTH_BYTES
        self._memory[first : first + len(text)] = text
        self._memory[start:first] = len(text).to_bytes(_LENGTH_BYTES, "little")
        return start

    def end(self, region: int) -> None:
        """Note that the group has ended."""
        self._memory[region : region + _LENGTH_BYTES] = bytes(_LENGTH_BYTES)
        self._free.append(region)


def running_jobs(descriptor: int) -> list[str] | None:
    """Return the ids of the jobs that ran when the writer ended; None if it never wrote."""
    size = os.fstat(descriptor).st_size
    memory = os.pread(descriptor, size, 0)
    width = int.from_bytes(memory[:_LENGTH_BYTES], "little")
    if not width:
        return None
    found: list[str] = []
    for start in range(_LENGTH_BYTES, size, width):
        first = start + _LENGTH_BYTES
        length = int.from_bytes(memory[start:first], "little")
        found += (
            memory[first : first + length].decode(errors="replace").split("\n") if length else []
        )
    return found
