"""Whose turn it is in the model: how far each batch of a queue and priority is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable

QUANTUM = 16

# Organization, queue, priority.
Line = tuple[str, str, int]


class Turns:
    """Counts jobs: each participant has `QUANTUM` of them in a round."""

    def __init__(self) -> None:
        self._following: defaultdict[tuple[Line, Hashable], int] = defaultdict(int)
        self._served: defaultdict[Line, int] = defaultdict(int)

    def take(self, line: Line, participant: Hashable) -> int:
        """The round of a participant's next job."""
        place = max(self._following[line, participant], QUANTUM * self._served[line])
        self._following[line, participant] = place + 1
        return place // QUANTUM

    def give_back(self, line: Line, participant: Hashable) -> None:
        """The turn that was taken made no job."""
        self._following[line, participant] -= 1

    def note(self, claimed: Iterable[tuple[Line, int]]) -> None:
        """Jobs of these rounds were claimed."""
        for line, number in claimed:
            self._served[line] = max(self._served[line], number)
