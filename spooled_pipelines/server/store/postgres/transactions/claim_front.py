"""Where the claimable jobs of a queue begin, so that claims need not look for it each time.

While somebody's transaction keeps dead rows, those of all jobs that were claimed lie in the index
in front of the jobs that can be. A claim that had to pass over them is slow; those that follow it
begin with the round in which it ended. What becomes claimable in an earlier round meanwhile (a job
that another server gives back, an enqueue that took long to commit) is found by the next claim
that looks from the start: after some time, or once a claim gets less than it wanted, at once where
it would get nothing. A claim that was quick leaves nothing to begin at.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# Looks from the start take a twentieth of the time at most, but are never further apart than this.
_SHARE, _SECONDS_MAX = 20, 2.0
# What a claim takes that passes over little, and each of its jobs.
_QUICK_SECONDS, _QUICK_JOB_SECONDS = 0.01, 0.000_05
_LOWEST, _HIGHEST = -(1 << 15), (1 << 15) - 1
_START = -1
# Of more priorities it is not worth remembering.
_PRIORITIES_MAX = 16


class Ranges(NamedTuple):
    """The columns that `claim_jobs_behind` takes: priorities from `lows` to `highs`, in order."""

    lows: list[int]
    highs: list[int]
    rounds: list[int]


@dataclass(slots=True)
class ClaimFront:
    """The round of the last claimed job of each priority of a queue, while it is remembered."""

    version: int = 0
    _rounds: dict[int, int] = field(default_factory=dict)
    _until: float = 0.0

    def ranges(self) -> Ranges | None:
        """Return what a claim has to look at; None: all there is."""
        if time.monotonic() >= self._until:
            self.forget()
        if not self._rounds:
            return None
        found: list[tuple[int, int, int]] = []
        high = _HIGHEST
        for priority in sorted(self._rounds, reverse=True):
            if priority < high:
                found.append((priority + 1, high, _START))
            found.append((priority, priority, self._rounds[priority]))
            high = priority - 1
        if high >= _LOWEST:
            found.append((_LOWEST, high, _START))
        return Ranges(*map(list, zip(*found, strict=True)))

    def forget(self) -> None:
        """Look from the start again: something came before, or may have."""
        self._rounds.clear()
        self.version += 1

    def claimed(self, version: int, rows: Sequence[Sequence[Any]], seconds: float | None) -> None:
        """Note what a claim took, in its order, that began as the front was at `version`.

        `seconds` is how long it took if it looked from the start.
        """
        if version != self.version:
            return
        if seconds is not None:
            self._rounds.clear()
            if seconds < _QUICK_SECONDS + len(rows) * _QUICK_JOB_SECONDS:
                return
            self._until = time.monotonic() + min(_SHARE * seconds, _SECONDS_MAX)
        # Of a row: place, batch, linked, priority, round.
        for row in rows:
            self._rounds[row[3]] = row[4]
        if len(self._rounds) > _PRIORITIES_MAX:
            self.forget()
