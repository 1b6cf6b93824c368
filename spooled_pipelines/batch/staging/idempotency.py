"""Hashes of rows: one per row, their sum, and keys made from them."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.staging.key_scope import HASH_BYTES

HASH_TYPE = pa.binary(HASH_BYTES)
# Keys on the wire are the hashes as hexadecimal text.
KEY_CHARACTERS = 2 * HASH_BYTES


def row_numbers(first: int, count: int) -> Any:
    """The numbers from `first` on (int64)."""
    return pc.add(_counted(1 << count.bit_length()).slice(0, count), first)


@lru_cache(maxsize=32)
def _counted(count: int) -> Any:
    # From Python's numbers, which for each batch anew took longer than all of its hashes' sums.
    return pa.array(range(count), pa.int64())


def row_hashes(identity: Any, seed: bytes) -> Any:
    """One hash of 16 bytes per entry of a binary array without nulls."""
    # As `person` the seed costs nothing; as data or key it would cost a round of its own. A copy of
    # a hash that is begun already costs a third less than beginning one.
    begun = blake2b(digest_size=HASH_BYTES, person=seed).copy
    hashes = []
    for piece in identity.to_pylist():
        one = begun()
        one.update(piece)
        hashes.append(one.digest())
    return pa.Array.from_buffers(HASH_TYPE, len(identity), [None, pa.py_buffer(b"".join(hashes))])


def hash_sum(hashes: Any) -> int:
    """The sum of the hashes as numbers: the same in any order."""
    lanes = _lanes(hashes, pa.uint32(), HASH_BYTES // 4)
    sums = [pc.sum(pc.list_element(lanes, i).cast(pa.uint64())).as_py() or 0 for i in range(4)]
    return int(sum(lane << (32 * i) for i, lane in enumerate(sums)))


def hash_fractions(hashes: Any) -> Any:
    """A number from 0 to below 1 for each hash (float64)."""
    lanes = pc.list_element(_lanes(hashes, pa.uint32(), HASH_BYTES // 4), HASH_BYTES // 4 - 1)
    return pc.divide(lanes.cast(pa.float64()), float(1 << 32))


def key_texts(hashes: Any) -> Any:
    """The keys as the wire has them, a binary array."""
    buffer = hashes.buffers()[1]
    start = hashes.offset * HASH_BYTES
    window = buffer.slice(start, len(hashes) * HASH_BYTES)
    digits = window.to_pybytes().hex().encode()
    fixed = pa.Array.from_buffers(
        pa.binary(KEY_CHARACTERS), len(hashes), [None, pa.py_buffer(digits)]
    )
    return fixed.cast(pa.binary())


def first_halves(hashes: Any) -> Any:
    """The first eight bytes of each hash, as numbers (int64)."""
    return pc.list_element(_lanes(hashes, pa.int64(), 2), 0)


def _lanes(hashes: Any, kind: Any, count: int) -> Any:
    """The hashes as lists of `count` numbers, without a copy."""
    buffer = hashes.buffers()[1]
    start = (hashes.offset) * HASH_BYTES
    window = buffer.slice(start, len(hashes) * HASH_BYTES)
    numbers = pa.Array.from_buffers(kind, count * len(hashes), [None, window])
    return pa.FixedSizeListArray.from_arrays(numbers, count)
