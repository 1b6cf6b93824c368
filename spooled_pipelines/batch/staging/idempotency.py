"""Keys of rows and the batch's id, so that the same call again means the same jobs.

Nothing here depends on the clock, on positions, or on how the source was cut into record batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.text import shown
from spooled_pipelines.wire.limits import BATCH_NAME_MAX, PART_ID_MAX

HASH_BYTES = 16
HASH_TYPE = pa.binary(HASH_BYTES)
# Keys on the wire are the hashes as hexadecimal text.
KEY_CHARACTERS = 2 * HASH_BYTES
_MODULUS = 1 << (8 * HASH_BYTES)


@dataclass(frozen=True)
class KeyScope:
    """The scope in which a row is the same row: a named batch of a queue, or the queue itself.

    A row without a key, which only its content tells apart, belongs to its part where the batch
    comes in parts: nothing counts over all parts how often the same content came before.
    """

    queue_name: str
    name: str | None = None
    part_id: str | None = None
    # The queue's first name, where it was renamed.
    key_name: str | None = None

    def __post_init__(self) -> None:
        for what, text, longest in (
            ("name", self.name, BATCH_NAME_MAX),
            ("part_id", self.part_id, PART_ID_MAX),
        ):
            if text is None:
                continue
            if not isinstance(text, str) or not 1 <= len(text) <= longest:
                raise InvalidArgumentError(
                    f"{what} must be a text of 1 to {longest} characters, got {shown(text)}."
                )

    @property
    def seed(self) -> bytes:
        """The bytes that go into the hash of every row that has a key."""
        queue_name = self.key_name or self.queue_name
        if self.name is None:
            return _hash("queue", queue_name)
        return _hash("name", queue_name, self.name)

    @property
    def content_seed(self) -> bytes:
        """The bytes that go into the hash of a row without a key."""
        if self.part_id is None:
            return self.seed
        return _hash("part", self.seed.hex(), self.part_id)


def batch_id(scope: KeyScope, row_hash_sum: int, rows: int) -> str:
    """Return `b_` and 32 hexadecimal digits.

    A named batch has the same id whatever rows it holds; the id of an unnamed one follows from its
    rows, in any order (`row_hash_sum` is the sum of the rows' hashes).
    """
    if scope.name is not None:
        digest = _hash("batch", scope.seed.hex())
    else:
        digest = _hash("batch", scope.seed.hex(), f"{row_hash_sum % _MODULUS:032x}", str(rows))
    return "b_" + digest.hex()


def rows_id(row_hash_sum: int, rows: int) -> str:
    """Return what is the same for the same rows, in any order."""
    return _hash("rows", f"{row_hash_sum % _MODULUS:032x}", str(rows)).hex()


def generation_seed(batch: str, generation: int) -> bytes:
    """Return the seed of the second hash of every row in a later generation (1 or more)."""
    return _hash("generation", batch, str(generation))


def later_occurrence(row_hash: bytes, occurrence: int) -> bytes:
    """Return the hash of a row whose content came `occurrence` times before (1 or more)."""
    return blake2b(row_hash + b"%d" % occurrence, digest_size=HASH_BYTES).digest()


def row_hashes(identity: pa.BinaryArray, seed: bytes) -> pa.FixedSizeBinaryArray:
    """Return one hash of 16 bytes per entry of an array without nulls."""
    # As `person` the seed costs nothing; as data or key it would cost a round of its own. A copy of
    # a hash that is begun already costs a third less than beginning one.
    begun = blake2b(digest_size=HASH_BYTES, person=seed).copy
    hashes = []
    for content in identity.to_pylist():
        one = begun()
        one.update(content)
        hashes.append(one.digest())
    return pa.Array.from_buffers(HASH_TYPE, len(identity), [None, pa.py_buffer(b"".join(hashes))])


def hash_sum(hashes: pa.FixedSizeBinaryArray) -> int:
    """Return the sum of the hashes as numbers: the same in any order."""
    words = np.frombuffer(hash_bytes(hashes), "<u4")
    return sum(int(words[i::4].sum(dtype=np.uint64)) << 32 * i for i in range(4))


def hash_fractions(hashes: pa.FixedSizeBinaryArray) -> pa.DoubleArray:
    """Return a number from 0 to below 1 for each hash."""
    return pa.array(np.frombuffer(hash_bytes(hashes), "<u4")[3::4] / (1 << 32))


def key_texts(hashes: pa.FixedSizeBinaryArray) -> pa.BinaryArray:
    """Return the keys as the wire has them."""
    digits = hash_bytes(hashes).to_pybytes().hex().encode()
    fixed = pa.Array.from_buffers(
        pa.binary(KEY_CHARACTERS), len(hashes), [None, pa.py_buffer(digits)]
    )
    return fixed.cast(pa.binary())


def hash_bytes(hashes: pa.FixedSizeBinaryArray) -> pa.Buffer:
    """Return the hashes one after the other, without a copy."""
    return hashes.buffers()[1].slice(hashes.offset * HASH_BYTES, len(hashes) * HASH_BYTES)


def _hash(*texts: str) -> bytes:
    # Each text with its length, so that no two lists of texts run together to the same bytes.
    framed = b"".join(b"%d:%b" % (len(text.encode()), text.encode()) for text in texts)
    return blake2b(framed, digest_size=HASH_BYTES).digest()
