"""Whose turn it is in the model: how far each participant of a queue and priority is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from fractions import Fraction

QUANTUM = 16
# After how long turns of keys are looked through again.
UPKEEP_MS = 60_000

# Organization, queue, priority.
Line = tuple[str, str, int]
# A batch, a key below 0, or None; and whether it was due later or is retried.
Participant = tuple[object, bool]


class Turns:
    """Counts rounds: each participant has `QUANTUM` jobs in one, for each unit of its weight."""

    def __init__(self) -> None:
        self._following: defaultdict[tuple[Line, Participant], Fraction] = defaultdict(Fraction)
        self._served: defaultdict[Line, int] = defaultdict(int)
        self._upkeep_due, self._has_keys = 0, False

    def take(self, line: Line, participant: Participant, weight: int = 1) -> int:
        """The round of a participant's next job."""
        place = max(self._following[line, participant], Fraction(self._served[line]))
        self._following[line, participant] = place + Fraction(1, QUANTUM * weight)
        return int(place)

    def give_back(self, line: Line, participant: Participant, weight: int) -> None:
        """The turn that was taken made no job."""
        self._following[line, participant] -= Fraction(1, QUANTUM * weight)

    def note(self, claimed: Iterable[tuple[Line, int]]) -> None:
        """Jobs of these rounds were claimed."""
        for line, number in claimed:
            self._served[line] = max(self._served[line], number)

    def look_after_keys(self, now: int, waits: Callable[[Line], bool]) -> int | None:
        """Forget turns of keys that change nothing; returns when to look again."""
        if now >= self._upkeep_due:
            keys = [one for one in self._following if isinstance(one[1][0], int)]
            for line, participant in keys:
                if self._following[line, participant] <= self._served[line] or not waits(line):
                    del self._following[line, participant]
            self._upkeep_due, self._has_keys = now + UPKEEP_MS, bool(keys)
        return self._upkeep_due if self._has_keys else None

    def restart(self) -> None:
        """A server looks at once when it starts."""
        self._upkeep_due, self._has_keys = 0, False
