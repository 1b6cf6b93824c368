"""Places in a batch's order of jobs, as few numbers: those that were passed on."""

from __future__ import annotations

import base64
import zlib
from bisect import bisect_right
from collections.abc import Iterable

from spooled_pipelines.errors import InvalidArgumentError

_VERSION = "1"


class PlaceSet:
    """A set of whole numbers that is small while most of them come in runs.

    Attributes:
        low: everything up to here is known to be passed on, also what is not in the set.
    """

    def __init__(self) -> None:
        # The first of each run, and the one behind its last.
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.low = 0

    def __len__(self) -> int:
        return sum(self._ends) - sum(self._starts)

    def __contains__(self, place: int) -> bool:
        run = bisect_right(self._starts, place) - 1
        return run >= 0 and place < self._ends[run]

    def update(self, places: Iterable[int]) -> None:
        """Add places."""
        for place in places:
            run = bisect_right(self._starts, place) - 1
            if run >= 0 and place < self._ends[run]:
                continue
            follows = run >= 0 and self._ends[run] == place
            precedes = run + 1 < len(self._starts) and self._starts[run + 1] == place + 1
            if follows and precedes:
                self._ends[run] = self._ends.pop(run + 1)
                del self._starts[run + 1]
            elif follows:
                self._ends[run] = place + 1
            elif precedes:
                self._starts[run + 1] = place
            else:
                self._starts.insert(run + 1, place)
                self._ends.insert(run + 1, place + 1)

    def to_text(self, batch_id: str) -> str:
        """Return a text from which `of_text` makes the set again."""
        numbers = [self.low]
        before = 0
        for start, end in zip(self._starts, self._ends, strict=True):
            numbers += [start - before, end - start]
            before = end
        packed = zlib.compress(" ".join(map(str, numbers)).encode(), 9)
        return f"{_VERSION}.{batch_id}.{base64.urlsafe_b64encode(packed).decode()}"

    @classmethod
    def of_text(cls, text: str, batch_id: str) -> PlaceSet:
        """Return the set of a text.

        Raises:
            InvalidArgumentError: it is no such text, or one of another batch.
        """
        made = cls()
        version, _, rest = text.partition(".")
        of_batch, _, packed = rest.rpartition(".")
        try:
            if version != _VERSION:
                raise ValueError(version)
            data = zlib.decompress(base64.urlsafe_b64decode(packed))
            made.low, *numbers = map(int, data.split())
            before = 0
            for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
                made._starts.append(before + gap)
                before += gap + length
                made._ends.append(before)
        except (ValueError, zlib.error):
            message = "after must be the cursor of an earlier as_settled(), and this text is none"
            raise InvalidArgumentError(message) from None
        if of_batch != batch_id:
            raise InvalidArgumentError(
                f"after is the cursor of batch {of_batch}, and this one is {batch_id}: pass one of "
                "its own, or leave it out"
            )
        return made
