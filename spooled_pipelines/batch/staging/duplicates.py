"""Which rows come more than once: found in flat memory, each row looked at once or twice."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.staging.idempotency import HASH_TYPE, first_halves, row_numbers
from spooled_pipelines.batch.staging.key_scope import HASH_BYTES, later_occurrence

if TYPE_CHECKING:
    from typing_extensions import Self

# Hashes of different rows that are looked at together.
_BUCKET_ROWS = 1 << 16
# What of a bucket is gathered before it is written.
_EXTENT_BYTES = 16 << 10
# Hashes, and the number of each one's row.
_Piece: TypeAlias = tuple[Any, Any]


class Occurrences:
    """How often the same hash was there before, for every row of an upload.

    Only where something comes more than once is anything kept: four bytes per row, in a file.
    """

    def __init__(self, batches: Iterator[Any], rows: int) -> None:
        """`batches` gives all hashes in order, `rows` in all."""
        self._file: Any = None
        self._rows = rows
        self.repeated = 0
        if rows <= _BUCKET_ROWS:
            pieces = list(_numbered_rows(batches))
            self._count(lambda: iter(pieces))
            return
        # One pass puts hashes that may be the same into the same bucket, and each bucket is
        # looked at alone: looking at all hashes once per bucket cost more the more rows there were.
        with _Buckets(-(-rows // _BUCKET_ROWS)) as buckets:
            for hashes, numbers in _numbered_rows(batches):
                buckets.add(hashes, numbers)
            for bucket in range(buckets.count):
                self._count(partial(buckets.pieces, bucket))

    def numbered(self, hashes: Any, first: int) -> Any:
        """`hashes`, which begin at row `first`, with those that come again made different."""
        if self._file is None:
            return hashes
        counts = self._counts(first, len(hashes))
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
        return [place for place, before in enumerate(self._counts(first, count)) if before]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _counts(self, first: int, count: int) -> array[int]:
        counts = array("I")
        self._file.seek(4 * first)
        counts.frombytes(self._file.read(4 * count))
        return counts

    def _count(self, pieces: Callable[[], Iterator[_Piece]]) -> None:
        """Find what comes again among these hashes, which stand in the order of their rows."""
        # Eight bytes that come twice are a sign, not a proof; the whole hash decides below.
        suspects = _doubled(first_halves(hashes) for hashes, _ in pieces())
        if not len(suspects):
            return
        seen: dict[bytes, int] = {}
        for hashes, numbers in pieces():
            where = pc.indices_nonzero(pc.is_in(first_halves(hashes), value_set=suspects))
            values, rows = hashes.take(where).to_pylist(), numbers.take(where).to_pylist()
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
    """Hashes and their rows, told apart by a few bits of the hash; in one file, in small pieces."""

    def __init__(self, least: int) -> None:
        self.count = 1 << (least - 1).bit_length()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by __exit__)
        # Of each bucket: what is not written yet, hashes and rows, and where the rest stands.
        self._waiting = [(bytearray(), bytearray()) for _ in range(self.count)]
        self._extents: list[list[tuple[int, int]]] = [[] for _ in range(self.count)]
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, hashes: Any, numbers: Any) -> None:
        which = pc.bit_wise_and(first_halves(hashes), self.count - 1)
        # Stable, so that rows stay in their order.
        order = pc.sort_indices(which)
        sizes = pc.value_counts(which.take(order))
        hashed = memoryview(hashes.take(order).buffers()[1])
        rows = memoryview(numbers.take(order).buffers()[1])
        start = 0
        for bucket, size in zip(*(column.to_pylist() for column in sizes.flatten()), strict=True):
            stop = start + size
            waiting = self._waiting[bucket]
            waiting[0].extend(hashed[HASH_BYTES * start : HASH_BYTES * stop])
            waiting[1].extend(rows[8 * start : 8 * stop])
            if len(waiting[0]) >= _EXTENT_BYTES:
                self._write(bucket)
            start = stop

    def pieces(self, bucket: int) -> Iterator[_Piece]:
        """What is in a bucket, a piece of it in memory at a time."""
        self._write(bucket)
        for place, count in self._extents[bucket]:
            self._file.seek(place)
            yield (
                _array(HASH_TYPE, count, self._file.read(HASH_BYTES * count)),
                _array(pa.int64(), count, self._file.read(8 * count)),
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


def _array(kind: Any, count: int, data: bytes) -> Any:
    return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(data)])


def _numbered_rows(batches: Iterator[Any]) -> Iterator[_Piece]:
    first = 0
    for hashes in batches:
        yield hashes, row_numbers(first, len(hashes))
        first += len(hashes)


def _doubled(pieces: Iterator[Any]) -> Any:
    """The numbers that come more than once: what is kept grows with the different ones alone."""
    different: list[Any] = []
    doubled: list[Any] = []
    for numbers in pieces:
        counted = pc.value_counts(numbers)
        different.append(counted.field("values"))
        doubled.append(_more_than_once(counted))
    if not different:
        return pa.array([], pa.int64())
    doubled.append(_more_than_once(pc.value_counts(pa.chunked_array(different))))
    return pc.unique(pa.concat_arrays(doubled))


def _more_than_once(counted: Any) -> Any:
    return counted.field("values").filter(pc.greater(counted.field("counts"), 1))
