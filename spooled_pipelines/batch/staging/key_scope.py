"""Who a row and a batch are, so that the same call again means the same jobs.

Nothing here depends on the clock, on positions, or on how the source was cut into batches.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.wire.limits import BATCH_NAME_MAX, PART_ID_MAX

HASH_BYTES = 16
_MODULUS = 1 << (8 * HASH_BYTES)


@dataclass(frozen=True)
class Scope:
    """Within what a row is the same row: a named batch of a queue, or the queue itself.

    A row that no key tells apart from its equals is moreover one of its part's, where the batch
    comes in parts: nobody counts over all of them how often it came before.
    """

    queue_name: str
    name: str | None = None
    part_id: str | None = None

    def __post_init__(self) -> None:
        for what, text, longest in (
            ("name", self.name, BATCH_NAME_MAX),
            ("part_id", self.part_id, PART_ID_MAX),
        ):
            if text is None:
                continue
            if not isinstance(text, str) or not 1 <= len(text) <= longest:
                shown = repr(text)
                raise InvalidArgumentError(
                    f"{what} is {shown if len(shown) <= 80 else shown[:77] + '...'}, and must be a "
                    f"text of 1 to {longest} characters."
                )

    @property
    def seed(self) -> bytes:
        """What goes into the hash of every row that has a key."""
        if self.name is None:
            return _hash("queue", self.queue_name)
        return _hash("name", self.queue_name, self.name)

    @property
    def content_seed(self) -> bytes:
        """What goes into the hash of a row that is told by its content."""
        if self.part_id is None:
            return self.seed
        return _hash("part", self.seed.hex(), self.part_id)


def batch_id(scope: Scope, row_hash_sum: int, rows: int) -> str:
    """`b_` and 32 hexadecimal digits.

    A named batch is itself whatever rows it holds; an unnamed one is its rows, in any order
    (`row_hash_sum` is the sum of the rows' hashes).
    """
    if scope.name is not None:
        digest = _hash("batch", scope.seed.hex())
    else:
        digest = _hash("batch", scope.seed.hex(), f"{row_hash_sum % _MODULUS:032x}", str(rows))
    return "b_" + digest.hex()


def generation_seed(batch: str, generation: int) -> bytes:
    """What goes into every row's hash again where a batch has begun anew (1 or more)."""
    return _hash("generation", batch, str(generation))


def later_occurrence(row_hash: bytes, occurrence: int) -> bytes:
    """The hash of a row whose content was there `occurrence` times before (1 or more)."""
    return hashlib.blake2b(row_hash + b"%d" % occurrence, digest_size=HASH_BYTES).digest()


def _hash(*texts: str) -> bytes:
    # Each text with its length, so that no two lists of texts run together to the same bytes.
    framed = b"".join(b"%d:%b" % (len(text.encode()), text.encode()) for text in texts)
    return hashlib.blake2b(framed, digest_size=HASH_BYTES).digest()
