"""When fetched jobs may begin: beside others, or by themselves those that may kill a worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from spooled_pipelines.worker.jobs.lease_table import LeasedJob


class Admission:
    """Begins jobs in order; those that are to run alone when no other runs, and none beside them.

    `begin` is called with jobs when they may begin, and with whether they run alone.
    """

    def __init__(self, begin: Callable[[Sequence[LeasedJob], bool], None]) -> None:
        self._begin = begin
        self._waiting: deque[tuple[Sequence[LeasedJob], bool]] = deque()
        self._running: set[LeasedJob] = set()
        self._is_alone = False

    @property
    def is_closed(self) -> bool:
        """Whether jobs run alone, or wait until they may, so that none is to be fetched."""
        return self._is_alone or bool(self._waiting)

    def enter(self, jobs: Sequence[LeasedJob], is_alone: bool) -> None:
        """Begin jobs as soon as they may."""
        self._waiting.append((jobs, is_alone))
        self._begin_waiting()

    def leave(self, jobs: Iterable[LeasedJob]) -> None:
        """Note that the jobs' runs have ended, or no longer count. May be repeated."""
        self._running.difference_update(jobs)
        if self._is_alone or self._waiting:
            self._begin_waiting()

    def take_waiting(self) -> list[LeasedJob]:
        """Return the jobs that have not begun, and do not begin them."""
        waiting = [leased for jobs, _ in self._waiting for leased in jobs]
        self._waiting.clear()
        return waiting

    def _begin_waiting(self) -> None:
        while self._waiting:
            jobs, is_alone = self._waiting[0]
            if self._running and (is_alone or self._is_alone):
                return
            self._waiting.popleft()
            self._is_alone = is_alone
            self._running.update(jobs)
            self._begin(jobs, is_alone)
        if not self._running:
            self._is_alone = False
