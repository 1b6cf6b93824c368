"""Rows that come more than once: detected in flat memory, each row looked at once or twice."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, TYPE_CHECKING, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.encoding.rows import row_numbers
from spooled_pipelines.batch.staging.idempotency import (
    HASH_BYTES,
    HASH_TYPE,
    first_halves,
    later_occurrence,
)

if TYPE_CHECKING:
    from typing_extensions import Self

# Hashes of different rows that are looked at together.
_BUCKET_ROWS = 1 << 16
# Bytes of a bucket's hashes that are gathered before they are written.
_EXTENT_BYTES = 16 << 10
# Hashes, and the number of each one's row.
_HashRun: TypeAlias = "tuple[pa.FixedSizeBinaryArray, pa.Int64Array]"


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
        suspects = _doubled(first_halves(hashes) for hashes, _ in runs())
        if not len(suspects):
            return
        seen: dict[bytes, int] = {}
        for hashes, numbers in runs():
            indices = pc.indices_nonzero(pc.is_in(first_halves(hashes), value_set=suspects))
            values, rows = hashes.take(indices).to_pylist(), numbers.take(indices).to_pylist()
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
        self.count = 1 << (least - 1).bit_length()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by __exit__)
        # Of each bucket: the hashes and rows that are not written yet, and where the rest stands.
        self._waiting = [(bytearray(), bytearray()) for _ in range(self.count)]
        self._extents: list[list[tuple[int, int]]] = [[] for _ in range(self.count)]
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, hashes: pa.FixedSizeBinaryArray, numbers: pa.Int64Array) -> None:
        """Put each hash and its row's number into the hash's bucket."""
        buckets = pc.bit_wise_and(first_halves(hashes), self.count - 1)
        # Stable, so that rows stay in their order.
        order = pc.sort_indices(buckets)
        sizes = pc.value_counts(buckets.take(order))
        hash_data = memoryview(hashes.take(order).buffers()[1])
        row_data = memoryview(numbers.take(order).buffers()[1])
        start = 0
        for bucket, size in zip(*(column.to_pylist() for column in sizes.flatten()), strict=True):
            stop = start + size
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
                _from_bytes(HASH_TYPE, count, self._file.read(HASH_BYTES * count)),
                _from_bytes(pa.int64(), count, self._file.read(8 * count)),
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


def _from_bytes(arrow_type: pa.DataType, count: int, data: bytes) -> pa.Array:
    return pa.Array.from_buffers(arrow_type, count, [None, pa.py_buffer(data)])


def _numbered(hashes: Iterator[pa.FixedSizeBinaryArray]) -> Iterator[_HashRun]:
    first = 0
    for run in hashes:
        yield run, row_numbers(first, len(run))
        first += len(run)


def _doubled(runs: Iterator[pa.Int64Array]) -> pa.Int64Array:
    """Return the numbers that come more than once: only the different ones take memory."""
    different: list[pa.Int64Array] = []
    doubled: list[pa.Int64Array] = []
    for numbers in runs:
        counted = pc.value_counts(numbers)
        different.append(counted.field("values"))
        doubled.append(_more_than_once(counted))
    if not different:
        return pa.array([], pa.int64())
    doubled.append(_more_than_once(pc.value_counts(pa.chunked_array(different))))
    return pc.unique(pa.concat_arrays(doubled))


def _more_than_once(counted: pa.StructArray) -> pa.Int64Array:
    return counted.field("values").filter(pc.greater(counted.field("counts"), 1))
