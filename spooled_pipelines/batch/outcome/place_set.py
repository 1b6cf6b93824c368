"""Places in a batch's order of jobs, as few bytes: those that were passed on."""

from __future__ import annotations

import base64
import zlib
from collections import defaultdict
from collections.abc import Iterable

from spooled_pipelines.errors import InvalidArgumentError

_VERSION = "2"
_BYTES = 1024
_FULL = b"\xff" * _BYTES


class PlaceSet:
    """A set of whole numbers, a bit for each; blocks without gaps are a number in its text.

    So the text is a few bytes while jobs settle in their order, and a bit for each job, in base64,
    in whatever order they settle.

    Attributes:
        low: everything up to here is known to be passed on, also what is not in the set.
    """

    def __init__(self) -> None:
        self._blocks: defaultdict[int, bytearray] = defaultdict(lambda: bytearray(_BYTES))
        self._count = 0
        self.low = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, place: int) -> bool:
        byte, bit = divmod(place, 8)
        block = self._blocks.get(byte // _BYTES)
        return block is not None and bool(block[byte % _BYTES] >> bit & 1)

    def update(self, places: Iterable[int]) -> None:
        """Add places."""
        for place in places:
            byte, bit = divmod(place, 8)
            block, at = self._blocks[byte // _BYTES], byte % _BYTES
            self._count += not block[at] >> bit & 1
            block[at] |= 1 << bit

    def to_text(self, batch_id: str) -> str:
        """Return a text from which `of_text` makes the set again."""
        # For each run of full blocks, and each other block: how many are left out before it, and
        # how many it is; 0 where its bits follow.
        numbers, bits, end = [self.low], [], 0
        for number, block in sorted(self._blocks.items()):
            is_full = block == _FULL
            if is_full and len(numbers) > 1 and numbers[-1] and number == end:
                numbers[-1] += 1
            else:
                numbers += [number - end, int(is_full)]
            if not is_full:
                bits.append(block)
            end = number + 1
        data = " ".join(map(str, numbers)).encode() + b"\n" + b"".join(bits)
        packed = base64.urlsafe_b64encode(zlib.compress(data)).decode()
        return f"{_VERSION}.{batch_id}.{packed}"

    @classmethod
    def of_text(cls, text: str, batch_id: str) -> PlaceSet:
        """Return the set of a text.

        Raises:
            InvalidArgumentError: it is not such a text, or is one of another batch.
        """
        made = cls()
        version, _, rest = text.partition(".")
        of_batch, _, packed = rest.rpartition(".")
        try:
            if version != _VERSION:
                raise ValueError(version)
            data = zlib.decompress(base64.urlsafe_b64decode(packed))
            said, _, bits = data.partition(b"\n")
            made.low, *numbers = map(int, said.split())
            end = at = 0
            for gap, run in zip(numbers[::2], numbers[1::2], strict=True):
                first, end = end + gap, end + gap + max(run, 1)
                block = _FULL if run else bits[at : at + _BYTES]
                if len(block) < _BYTES:
                    raise ValueError(len(block))
                at += 0 if run else _BYTES
                made._blocks.update((number, bytearray(block)) for number in range(first, end))
            made._count = sum(
                int.from_bytes(block, "big").bit_count() for block in made._blocks.values()
            )
        except (ValueError, zlib.error):
            message = "after must be the cursor of an earlier as_settled(), and this text is none"
            raise InvalidArgumentError(message) from None
        if of_batch != batch_id:
            raise InvalidArgumentError(
                f"after is the cursor of batch {of_batch}, and this one is {batch_id}: pass one of "
                "its own, or leave it out"
            )
        return made
