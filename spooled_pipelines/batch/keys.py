"""Hashes of rows: one per row, their sum, and which of them come more than once."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.identity import HASH_BYTES, later_occurrence

HASH_TYPE = pa.binary(HASH_BYTES)
# Keys on the wire are the hashes as hexadecimal text.
KEY_CHARACTERS = 2 * HASH_BYTES
# Rows whose hashes are looked at together, to find what comes twice in flat memory.
_BUCKET_ROWS = 1 << 18


def row_hashes(identity: Any, seed: bytes) -> Any:
    """One hash of 16 bytes per entry of a binary array without nulls."""
    # As `person` the seed costs nothing; as data or key it would cost a round of its own.
    digest = partial(blake2b, digest_size=HASH_BYTES, person=seed)
    hashes = b"".join([digest(piece).digest() for piece in identity.to_pylist()])
    return pa.Array.from_buffers(HASH_TYPE, len(identity), [None, pa.py_buffer(hashes)])


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


class Occurrences:
    """How often the same hash was there before, for every row of an upload.

    Only where something comes more than once is anything kept: four bytes per row, in a file.
    """

    def __init__(self, batches: Callable[[], Iterator[Any]], rows: int) -> None:
        """`batches` gives all hashes anew, in order, `rows` in all."""
        self._file: Any = None
        self.repeated = 0
        buckets = 1
        while buckets * _BUCKET_ROWS < rows:
            buckets *= 2
        for bucket in range(buckets):
            self._count(batches, rows, buckets, bucket)

    def numbered(self, hashes: Any, first: int) -> Any:
        """`hashes`, which begin at row `first`, with those that come again made different."""
        if self._file is None:
            return hashes
        counts = array("I")
        self._file.seek(4 * first)
        counts.frombytes(self._file.read(4 * len(hashes)))
        if not any(counts):
            return hashes
        made = [
            later_occurrence(value, count) if count else value
            for value, count in zip(hashes.to_pylist(), counts, strict=True)
        ]
        return pa.array(made, HASH_TYPE)

    def repeats(self, first: int, count: int) -> list[int]:
        """Which of `count` rows from row `first` on come again, by their places among these."""
        if self._file is None:
            return []
        counts = array("I")
        self._file.seek(4 * first)
        counts.frombytes(self._file.read(4 * count))
        return [place for place, before in enumerate(counts) if before]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _count(
        self, batches: Callable[[], Iterator[Any]], rows: int, buckets: int, bucket: int
    ) -> None:
        """Find what comes again among the hashes of one bucket."""
        halves = []
        for hashes in batches():
            half = _first_half(hashes)
            if buckets > 1:
                half = half.filter(pc.equal(pc.bit_wise_and(half, buckets - 1), bucket))
            halves.append(half)
        found = pa.chunked_array(halves, pa.int64())
        # Eight bytes that come twice are a sign, not a proof; the whole hash decides below.
        counted = pc.value_counts(found)
        suspects = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
        if not len(suspects):
            return
        del halves, found, counted
        seen: dict[bytes, int] = {}
        first = 0
        for hashes in batches():
            where = pc.indices_nonzero(pc.is_in(_first_half(hashes), value_set=suspects))
            values = hashes.take(where).to_pylist()
            for index, value in zip(where.to_pylist(), values, strict=True):
                count = seen.get(value, 0)
                seen[value] = count + 1
                if count:
                    self._write(rows, first + index, count)
            first += len(hashes)

    def _write(self, rows: int, row: int, count: int) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close())
            self._file.truncate(4 * rows)
        self.repeated += 1
        self._file.seek(4 * row)
        self._file.write(array("I", [count]).tobytes())


def _first_half(hashes: Any) -> Any:
    return pc.list_element(_lanes(hashes, pa.int64(), 2), 0)


def _lanes(hashes: Any, kind: Any, count: int) -> Any:
    """The hashes as lists of `count` numbers, without a copy."""
    buffer = hashes.buffers()[1]
    start = (hashes.offset) * HASH_BYTES
    window = buffer.slice(start, len(hashes) * HASH_BYTES)
    numbers = pa.Array.from_buffers(kind, count * len(hashes), [None, window])
    return pa.FixedSizeListArray.from_arrays(numbers, count)
