"""Rows that come more than once: detected in flat memory, each row looked at once or twice."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa

from spooled_pipelines.batch.staging.idempotency import (
    HASH_BYTES,
    HASH_TYPE,
    hash_bytes,
    later_occurrence,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    _Numbers: TypeAlias = NDArray[np.int64]
    # Hashes, and the number of each one's row.
    _HashRun: TypeAlias = tuple[NDArray[np.void], _Numbers]

# Hashes of different rows that are looked at together.
_BUCKET_ROWS = 1 << 18
_BUCKETS_MOST = 1 << 16
# Bytes of a bucket's hashes that are gathered before they are written.
_EXTENT_BYTES = 16 << 10
_HASHES = np.dtype(f"V{HASH_BYTES}")


class DuplicateIndex:
    """How often the same hash came before, for every row of an upload.

    Only where a hash comes more than once is anything kept: four bytes per row, in a file.
    """

    def __init__(self, hashes: Iterator[pa.FixedSizeBinaryArray], rows: int) -> None:
        """Read all hashes, in the order of the rows; there are `rows` of them."""
        self._file: IO[bytes] | None = None
        self._rows = rows
        self.repeated = 0
        if rows <= _BUCKET_ROWS:
            runs = list(_numbered(hashes))
            self._count(lambda: iter(runs))
            return
        # One pass puts hashes that may be the same into the same bucket, and each bucket is
        # looked at alone: looking at all hashes once per bucket cost more the more rows there were.
        with _Buckets(-(-rows // _BUCKET_ROWS)) as buckets:
            for run, numbers in _numbered(hashes):
                buckets.add(run, numbers)
            for bucket in range(buckets.count):
                self._count(partial(buckets.runs, bucket))

    def make_distinct(self, hashes: pa.FixedSizeBinaryArray, first: int) -> pa.FixedSizeBinaryArray:
        """Return the hashes from row `first` on, with those that come again made different."""
        counts = self._counts(first, len(hashes))
        if not any(counts):
            return hashes
        distinct = [
            later_occurrence(value, count) if count else value
            for value, count in zip(hashes.to_pylist(), counts, strict=True)
        ]
        return pa.array(distinct, HASH_TYPE)

    def repeats(self, first: int, count: int) -> list[int]:
        """Return which of `count` rows from row `first` on come again, counted from `first`."""
        return [index for index, before in enumerate(self._counts(first, count)) if before]

    def close(self) -> None:
        """Delete the file."""
        if self._file is not None:
            self._file.close()

    def _counts(self, first: int, count: int) -> array[int]:
        counts = array("I")
        if self._file is not None:
            self._file.seek(4 * first)
            counts.frombytes(self._file.read(4 * count))
        return counts

    def _count(self, runs: Callable[[], Iterator[_HashRun]]) -> None:
        """Find what comes again among these hashes, which stand in the order of their rows."""
        # Eight bytes that come twice are a sign, not a proof; the whole hash decides below.
        suspects = _doubled(_first_halves(hashes) for hashes, _ in runs())
        if not len(suspects):
            return
        seen: dict[bytes, int] = {}
        for hashes, numbers in runs():
            halves = _first_halves(hashes)
            # Of each, the last suspect that is not above it.
            places = np.searchsorted(suspects[1:], halves, side="right")
            chosen = suspects[places] == halves
            values, rows = hashes[chosen].tolist(), numbers[chosen].tolist()
            for value, row in zip(values, rows, strict=True):
                count = seen.get(value, 0)
                seen[value] = count + 1
                if count:
                    self._write(row, count)

    def _write(self, row: int, count: int) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close())
            self._file.truncate(4 * self._rows)
        self.repeated += 1
        self._file.seek(4 * row)
        self._file.write(array("I", [count]).tobytes())


class _Buckets:
    """Hashes and their rows, told apart by a few bits of the hash; in one file, in short runs."""

    def __init__(self, least: int) -> None:
        self.count = min(1 << (least - 1).bit_length(), _BUCKETS_MOST)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by __exit__)
        # Of each bucket: the hashes and rows that are not written yet, and where the rest stands.
        self._waiting = [(bytearray(), bytearray()) for _ in range(self.count)]
        self._extents: list[list[tuple[int, int]]] = [[] for _ in range(self.count)]
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, hashes: NDArray[np.void], numbers: _Numbers) -> None:
        """Put each hash and its row's number into the hash's bucket."""
        buckets = (_first_halves(hashes) & (self.count - 1)).astype(np.uint16)
        # Stable, so that rows stay in their order.
        order = np.argsort(buckets, kind="stable")
        hash_data, row_data = hashes[order].tobytes(), numbers[order].tobytes()
        sizes = np.bincount(buckets, minlength=self.count)
        start = 0
        for bucket in np.flatnonzero(sizes).tolist():
            stop = start + int(sizes[bucket])
            waiting = self._waiting[bucket]
            waiting[0].extend(hash_data[HASH_BYTES * start : HASH_BYTES * stop])
            waiting[1].extend(row_data[8 * start : 8 * stop])
            if len(waiting[0]) >= _EXTENT_BYTES:
                self._write(bucket)
            start = stop

    def runs(self, bucket: int) -> Iterator[_HashRun]:
        """Yield what is in a bucket, one run of it in memory at a time."""
        self._write(bucket)
        for offset, count in self._extents[bucket]:
            self._file.seek(offset)
            yield (
                np.frombuffer(self._file.read(HASH_BYTES * count), _HASHES),
                np.frombuffer(self._file.read(8 * count), np.int64),
            )

    def _write(self, bucket: int) -> None:
        hashes, rows = self._waiting[bucket]
        if not hashes:
            return
        self._file.seek(self._end)
        self._file.write(hashes)
        self._file.write(rows)
        self._extents[bucket].append((self._end, len(hashes) // HASH_BYTES))
        self._end += len(hashes) + len(rows)
        self._waiting[bucket] = (bytearray(), bytearray())


def _numbered(hashes: Iterator[pa.FixedSizeBinaryArray]) -> Iterator[_HashRun]:
    first = 0
    for run in hashes:
        yield np.frombuffer(hash_bytes(run), _HASHES), np.arange(first, first + len(run))
        first += len(run)


def _first_halves(hashes: NDArray[np.void]) -> _Numbers:
    return hashes.view("<i8")[::2]


def _doubled(runs: Iterator[_Numbers]) -> _Numbers:
    """Return, sorted, the numbers that come more than once: only the different ones take memory."""
    different: _Numbers = np.array([], np.int64)
    doubled = [different]
    for lot in _in_lots(runs):
        numbers = np.sort(np.concatenate((different, *lot)))
        comes_again = numbers[1:] == numbers[:-1]
        doubled.append(np.unique(numbers[1:][comes_again]))
        different = numbers[np.append(True, ~comes_again)]
    return np.unique(np.concatenate(doubled))


def _in_lots(runs: Iterator[_Numbers]) -> Iterator[list[_Numbers]]:
    """Yield some runs at a time: few lots, since each is sorted with all that came before it."""
    lot: list[_Numbers] = []
    for run in runs:
        lot.append(run)
        if sum(map(len, lot)) >= _BUCKET_ROWS:
            yield lot
            lot = []
    if lot:
        yield lot
