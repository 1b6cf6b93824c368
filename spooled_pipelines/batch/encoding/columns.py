"""Pieces of wire bytes, one per row, that are joined as late as possible.

A column becomes `Cells`: constant bytes and arrays that stand one behind the other in every row.
Wrapping cells in a field with a length only puts one more part in front, so a row of many
columns is put together by a single join in Arrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.encoding.protobuf_wire import varint

BinaryArray: TypeAlias = Any
IntArray: TypeAlias = Any
Head: TypeAlias = Callable[[int], bytes]

# Heads of all sizes up to this one are kept in a table; beyond it up to the other one where there
# are rows enough to be worth it.
_TABLE_MAX, _LARGE_TABLE_MAX = 1024, 16_384


@dataclass(frozen=True)
class Cells:
    """One piece of bytes per row.

    Attributes:
        parts: what stands one behind the other; an array has one entry per row.
        size: bytes of all parts together; one int where every row has the same.
        null: what a row is instead, where one of its parts is null. None: no part has nulls.
    """

    parts: tuple[bytes | BinaryArray, ...]
    size: int | IntArray
    null: bytes | None = None

    def wrapped(self, head: Head) -> Cells:
        """With `head(size)` in front of each piece."""
        null = None if self.null is None else head(len(self.null)) + self.null
        if isinstance(self.size, int):
            front = head(self.size)
            return Cells(_merged((front, *self.parts)), self.size + len(front), null)
        fronts = heads(self.size, head)
        return Cells((fronts, *self.parts), pc.add(self.size, pc.binary_length(fronts)), null)

    def or_null(self, null: bytes) -> Cells:
        """The same, where a null row is `null`."""
        return replace(self, null=null)

    def joined(self, rows: int) -> BinaryArray:
        """One binary array of `rows` pieces, without nulls."""
        array = join(self.parts, rows)
        return array if self.null is None else array.fill_null(self.null)

    def settled(self, rows: int) -> Cells:
        """The same pieces without nulls: joined only where there is a null at all."""
        if self.null is None:
            return self
        if not any(not isinstance(part, bytes) and part.null_count for part in self.parts):
            return replace(self, null=None)
        array = self.joined(rows)
        return Cells((array,), pc.binary_length(array))


def side_by_side(cells: Iterable[Cells], rows: int) -> Cells:
    """Several cells of the same rows, one behind the other."""
    parts: list[bytes | BinaryArray] = []
    constant = 0
    varying = None
    for cell in cells:
        settled = cell.settled(rows)
        parts.extend(settled.parts)
        if isinstance(settled.size, int):
            constant += settled.size
        else:
            varying = settled.size if varying is None else pc.add(varying, settled.size)
    size = constant if varying is None else pc.add(varying, pa.scalar(constant, pa.int32()))
    return Cells(_merged(parts), size)


def of_array(array: BinaryArray) -> Cells:
    """Cells of a binary array; its nulls stay nulls."""
    return Cells((array,), pc.binary_length(array))


@lru_cache(maxsize=1024)
def tagged(tag: bytes) -> Head:
    """The head of a length-delimited field; the same function for the same tag."""
    return lambda size: tag + varint(size)


def heads(sizes: IntArray, head: Head) -> BinaryArray:
    """`head(size)` of every size; where that is null, null or anything."""
    bounds = pc.min_max(sizes)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if low is None:
        return pa.nulls(len(sizes), pa.binary())
    if low == high:
        return pa.repeat(pa.scalar(head(low), pa.binary()), len(sizes))
    # A power of two, so that batches whose largest piece differs a little share a table.
    entries = 1 << high.bit_length()
    if entries <= _TABLE_MAX or entries <= min(len(sizes), _LARGE_TABLE_MAX):
        return _table(head, entries).take(sizes)
    return by_value(sizes, head)


# Made anew for each batch of rows, the tables took a third of the time of a string-heavy table.
@lru_cache(maxsize=256)
def _table(head: Head, entries: int) -> BinaryArray:
    return pa.array([head(size) for size in range(entries)], pa.binary())


def by_value(array: Any, make: Callable[[Any], bytes]) -> BinaryArray:
    """`make(value)` of every value, called once per distinct one; null where it is null."""
    coded = array.dictionary_encode()
    made = [make(value) for value in coded.dictionary.to_pylist()]
    return pa.array(made, pa.binary()).take(coded.indices)


def join(parts: Iterable[bytes | BinaryArray], rows: int) -> BinaryArray:
    """The parts of each row in one binary array; null where one of them is null."""
    parts = list(parts)
    if all(isinstance(part, bytes) for part in parts):
        return pa.repeat(pa.scalar(b"".join(parts), pa.binary()), rows)
    operands = [pa.scalar(p, pa.binary()) if isinstance(p, bytes) else p for p in parts]
    return pc.binary_join_element_wise(*operands, b"")


def _merged(parts: Iterable[bytes | BinaryArray]) -> tuple[bytes | BinaryArray, ...]:
    """Neighbouring constants as one: a join costs per part and row."""
    merged: list[bytes | BinaryArray] = []
    for part in parts:
        if isinstance(part, bytes) and merged and isinstance(merged[-1], bytes):
            merged[-1] += part
        else:
            merged.append(part)
    return tuple(merged)
