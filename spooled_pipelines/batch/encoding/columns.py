"""Columns of wire bytes, joined as late as possible.

A column of a table becomes an `EncodedColumn`: constant bytes and Arrow arrays that follow each
other in every row. Wrapping it in a field with a length only puts one more fragment in front, so a
row of many columns is put together by a single join in Arrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.encoding.protobuf_wire import varint

# Returns the bytes in front of content of a size.
Prefix: TypeAlias = Callable[[int], bytes]

# Prefixes of all sizes up to this one are kept in a table; beyond it up to the other one where
# there are rows enough to be worth it.
_TABLE_MAX, _LARGE_TABLE_MAX = 1024, 16_384


@dataclass(frozen=True)
class EncodedColumn:
    """Bytes for each row of a column.

    Attributes:
        fragments: bytes that follow each other in a row; an array has one entry per row.
        size: bytes of all fragments together; one int where every row has the same.
        null: what a row is where one of its fragments is null. None: no fragment has nulls.
    """

    fragments: tuple[bytes | pa.BinaryArray, ...]
    size: int | pa.Int32Array
    null: bytes | None = None

    def with_length_prefix(self, prefix: Prefix) -> EncodedColumn:
        """Return the column with `prefix(size)` in front of each row."""
        null = None if self.null is None else prefix(len(self.null)) + self.null
        if isinstance(self.size, int):
            constant = prefix(self.size)
            fragments = _merge_constants((constant, *self.fragments))
            return EncodedColumn(fragments, self.size + len(constant), null)
        prefixes = length_prefixes(self.size, prefix)
        size = pc.add(self.size, pc.binary_length(prefixes))
        return EncodedColumn((prefixes, *self.fragments), size, null)

    def fill_null(self, null: bytes) -> EncodedColumn:
        """Return the column with `null` in the rows that are null."""
        return replace(self, null=null)

    def filter(self, mask: pa.BooleanArray) -> EncodedColumn:
        """Return the rows for which the mask is true."""
        fragments = tuple(
            item if isinstance(item, bytes) else item.filter(mask) for item in self.fragments
        )
        size = self.size if isinstance(self.size, int) else self.size.filter(mask)
        return EncodedColumn(fragments, size, self.null)

    def to_array(self, rows: int) -> pa.BinaryArray:
        """Return one array of `rows` entries, without nulls."""
        array = join_columns(self.fragments, rows)
        return array if self.null is None else array.fill_null(self.null)

    def without_nulls(self, rows: int) -> EncodedColumn:
        """Return the same bytes without nulls: joined only where there is a null at all."""
        if self.null is None:
            return self
        arrays = (item for item in self.fragments if not isinstance(item, bytes))
        if not any(array.null_count for array in arrays):
            return replace(self, null=None)
        return from_array(self.to_array(rows))


def concat(columns: Iterable[EncodedColumn], rows: int) -> EncodedColumn:
    """Return columns of the same rows as one, each after the one before."""
    fragments: list[bytes | pa.BinaryArray] = []
    constant = 0
    varying = None
    for column in columns:
        filled = column.without_nulls(rows)
        fragments.extend(filled.fragments)
        if isinstance(filled.size, int):
            constant += filled.size
        else:
            varying = filled.size if varying is None else pc.add(varying, filled.size)
    size = constant if varying is None else pc.add(varying, pa.scalar(constant, pa.int32()))
    return EncodedColumn(_merge_constants(fragments), size)


def from_array(array: pa.BinaryArray) -> EncodedColumn:
    """Return the column of an array; its nulls stay nulls."""
    return EncodedColumn((array,), pc.binary_length(array))


@lru_cache(maxsize=1024)
def length_delimited(field_tag: bytes) -> Prefix:
    """Return the prefix of a length-delimited field; the same function for the same tag."""
    return lambda size: field_tag + varint(size)


def length_prefixes(sizes: pa.Int32Array, prefix: Prefix) -> pa.BinaryArray:
    """Return `prefix(size)` of every size; null or anything where a size is null."""
    bounds = pc.min_max(sizes)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if low is None:
        return pa.nulls(len(sizes), pa.binary())
    if low == high:
        return pa.repeat(pa.scalar(prefix(low), pa.binary()), len(sizes))
    # A power of two, so that batches whose largest row differs a little share a table.
    entries = 1 << high.bit_length()
    if entries <= _TABLE_MAX or entries <= min(len(sizes), _LARGE_TABLE_MAX):
        return _prefix_table(prefix, entries).take(sizes)
    return map_distinct(sizes, prefix)


# Built again for each record batch, the tables took a third of the time of a string-heavy table.
@lru_cache(maxsize=256)
def _prefix_table(prefix: Prefix, entries: int) -> pa.BinaryArray:
    return pa.array([prefix(size) for size in range(entries)], pa.binary())


def map_distinct(array: pa.Array, function: Callable[[Any], bytes]) -> pa.BinaryArray:
    """Return `function(value)` of every value, called once per distinct one; null where null."""
    dictionary_encoded = array.dictionary_encode()
    results = [function(value) for value in dictionary_encoded.dictionary.to_pylist()]
    return pa.array(results, pa.binary()).take(dictionary_encoded.indices)


def join_columns(fragments: Iterable[bytes | pa.BinaryArray], rows: int) -> pa.BinaryArray:
    """Join the fragments of each row in one array; null where one of them is null."""
    fragments = list(fragments)
    if all(isinstance(item, bytes) for item in fragments):
        return pa.repeat(pa.scalar(b"".join(fragments), pa.binary()), rows)
    operands = [
        pa.scalar(item, pa.binary()) if isinstance(item, bytes) else item for item in fragments
    ]
    return pc.binary_join_element_wise(*operands, b"")


def _merge_constants(
    fragments: Iterable[bytes | pa.BinaryArray],
) -> tuple[bytes | pa.BinaryArray, ...]:
    """Return neighbouring constants as one: a join costs per fragment and row."""
    merged: list[bytes | pa.BinaryArray] = []
    for item in fragments:
        if isinstance(item, bytes) and merged and isinstance(merged[-1], bytes):
            merged[-1] += item
        else:
            merged.append(item)
    return tuple(merged)
