"""Whose turn it is among the batches of a queue, decided without I/O: the same for every store.

Jobs of one queue and priority go out by their rounds, and within a round by age. Each batch has
`QUANTUM` jobs in a round for each unit of its weight, and so have the jobs without a batch
together: they are participants. A job gets its round when it becomes claimable: the one that its
participant has come to, and none that has been served already. This is start-time fair queueing
(Goyal, Vin, Cheng, 1996) with the rounds as its virtual time; claims are the order of an index.

Several jobs for each turn, since those that were stored together are read and written together.
What was due later or was retried takes turns of its own beside the batch's other jobs: it would
else go behind all of them, or ahead of everyone.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

from spooled_pipelines.server.core.jobs.rules import HELD

QUANTUM = 16
# A round is so long that the length of a job is a whole number for every weight, nearly.
ROUND = QUANTUM * 10_080
# The participant that the jobs without a batch are together.
ALONE = 0


class Participant(NamedTuple):
    """What takes turns in one priority of a queue: a batch, a key (see `key_number`), `ALONE`."""

    priority: int
    number: int


@dataclass(frozen=True, slots=True)
class Rounds:
    """The rounds of jobs of one participant that come one after the other."""

    first: int
    length: int
    jobs: int

    def __iter__(self) -> Iterator[int]:
        end = self.first + self.length * self.jobs
        return (place // ROUND for place in range(self.first, end, self.length))


def length(weight: int) -> int:
    """Return how long a job is within a round; the weight is one of its participant's batch."""
    return ROUND // (QUANTUM * weight)


def key_number(by: str, key: str) -> int:
    """Return the number of what has this key: below those of batches, from a hash of 63 bits."""
    digest = hashlib.blake2b(f"{by}\0{key}".encode(), digest_size=8).digest()
    return -1 - (int.from_bytes(digest, "big") >> 1)


class RowTurns:
    """The turns that the rows of a chunk want; those that are due later get theirs then."""

    def __init__(
        self,
        batch: int,
        weight: int,
        priorities: Sequence[int] | int,
        due: Sequence[int | None] | None,
        fair_keys: Sequence[int | None] | None,
        rows: int,
    ) -> None:
        self._rows = rows
        self._length = length(weight)
        self._of: Participant | list[Participant | None]
        if isinstance(priorities, int) and due is None and fair_keys is None:
            self._of = Participant(priorities, batch)
            return
        each = repeat(priorities, rows) if isinstance(priorities, int) else priorities
        later: Iterable[int | None] = repeat(None, rows) if due is None else due
        keys: Iterable[int | None] = repeat(None, rows) if fair_keys is None else fair_keys
        self._of = [
            None if moment not in (None, HELD) else Participant(priority, key or batch)
            for priority, moment, key in zip(each, later, keys, strict=True)
        ]

    @property
    def lengths(self) -> dict[Participant, int]:
        """How long the jobs of each participant are together, in the order of locks."""
        return self._lengths(range(self._rows))

    def unused(self, duplicates: Sequence[int]) -> dict[Participant, int]:
        """Return the same of rows that made no job."""
        return self._lengths(duplicates)

    def rounds(self, firsts: Mapping[Participant, int]) -> Rounds | list[int]:
        """Return the round of each row, where `firsts` says where participants go on."""
        if isinstance(self._of, Participant):
            return Rounds(firsts.get(self._of, 0), self._length, self._rows)
        following = dict(firsts)
        found = []
        for one in self._of:
            if one is None:
                found.append(0)
                continue
            found.append(following[one] // ROUND)
            following[one] += self._length
        return found

    def _lengths(self, rows: Sequence[int]) -> dict[Participant, int]:
        if isinstance(self._of, Participant):
            return {self._of: self._length * len(rows)} if rows else {}
        counts = Counter(one for row in rows if (one := self._of[row]) is not None)
        return {one: self._length * jobs for one, jobs in sorted(counts.items())}
