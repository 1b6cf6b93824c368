"""Serialized Structs, one field of all rows at a time: a few steps of numpy each, none per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa

from spooled_pipelines.batch.encoding.protobuf_wire import (
    FIELD_1,
    FIELD_2,
    VALUE_FALSE,
    VALUE_LIST,
    VALUE_NULL,
    VALUE_NUMBER,
    VALUE_STRING,
    VALUE_STRUCT,
    VALUE_TRUE,
    bytes_field,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    _Integers: TypeAlias = npt.NDArray[np.int64]
    _Words: TypeAlias = npt.NDArray[np.uint64]
    _Bools: TypeAlias = npt.NDArray[np.bool_]

# What a Value holds, by the tag of its field; null has 0, as a Value without any field does.
NULL, NUMBER, TEXT = 0, VALUE_NUMBER[0], VALUE_STRING[0]
BOOL, STRUCT, LIST = VALUE_TRUE[0], VALUE_STRUCT[0], VALUE_LIST[0]
_WORD = 8
# A ListValue's number: the tag of the Value, its length, the tag of the number, and eight bytes.
_LIST_NUMBER = FIELD_1 + bytes((len(VALUE_NUMBER) + _WORD,)) + VALUE_NUMBER

# Lists longer than this are read item by item only where there are many of them.
_LIST_ITEMS_MAX, _LISTS_MIN = 32, 16


@dataclass(frozen=True)
class FieldValues:
    """What one field holds in each of some rows.

    Attributes:
        kinds: NULL, NUMBER, TEXT, BOOL, STRUCT or LIST.
        starts, sizes: where the content is.
    """

    kinds: _Integers
    starts: _Integers
    sizes: _Integers

    def take(self, rows: _Integers) -> FieldValues:
        """Return the values of some of the rows."""
        return FieldValues(self.kinds[rows], self.starts[rows], self.sizes[rows])


class WireBytes:
    """The bytes of an array's entries, read at many places at once.

    Attributes:
        starts, ends: of each entry.
    """

    def __init__(self, array: pa.BinaryArray) -> None:
        """Take an array without nulls."""
        _, offsets, data = array.buffers()
        bounds = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
        first, last = int(bounds[0]), int(bounds[-1])
        # A word may be read at each place, the last one included.
        self._bytes = np.zeros(last - first + _WORD, np.uint8)
        if data is not None:
            self._bytes[: last - first] = np.frombuffer(data, np.uint8)[first:last]
        self._words: _Words = np.ndarray(
            (last - first + 1,), "<u8", buffer=self._bytes.data, strides=(1,)
        )
        offsets_in_bytes = bounds.astype(np.int64) - first
        self.starts, self.ends = offsets_in_bytes[:-1], offsets_in_bytes[1:]

    def read_fields(
        self, starts: _Integers, ends: _Integers, names: Sequence[bytes]
    ) -> tuple[_Bools, list[FieldValues]]:
        """Read Structs that have these fields in this order, one of which has them surely.

        Return which of them have; what is said of the others' values means nothing.
        """
        fits = np.ones(len(starts), bool)
        fields = []
        for name in names:
            key = bytes_field(FIELD_1, name) + FIELD_2
            # Of an entry the tag, the length, the key and the value's length; the value.
            words = self._words[starts]
            size, count = _varints(words >> np.uint64(8))
            key_at = starts + 1 + count
            entry_end = key_at + size
            fits &= (words.astype(np.uint8) == FIELD_1[0]) & (count > 0)
            fits &= (entry_end <= ends) & (size > len(key))
            # Whatever does not fit is read at the start, where there are bytes enough.
            key_at = np.where(fits, key_at, 0)
            for offset in range(0, len(key), _WORD):
                part = key[offset : offset + _WORD]
                mask = np.uint64((1 << 8 * len(part)) - 1)
                wanted = np.uint64(int.from_bytes(part, "little"))
                fits &= (self._words[key_at + offset] & mask) == wanted
            value_size, count = _varints(self._words[key_at + len(key)])
            value_at = key_at + len(key) + count
            fits &= (count > 0) & (value_at + value_size == entry_end)
            value_at, value_size = np.where(fits, value_at, 0), np.where(fits, value_size, 0)
            values, has_value = self._values(value_at, value_size)
            fits &= has_value
            fields.append(values)
            starts = np.where(fits, entry_end, 0)
        fits &= starts == ends
        return fits, fields

    def _values(self, starts: _Integers, sizes: _Integers) -> tuple[FieldValues, _Bools]:
        """Return what Values of these places hold, and which of them hold one thing."""
        words = self._words[starts]
        kinds = words.astype(np.uint8).astype(np.int64)
        is_number = (kinds == NUMBER) & (sizes == len(VALUE_NUMBER) + _WORD)
        if is_number.all():
            return FieldValues(kinds, starts + 1, sizes - 1), is_number
        small = words.astype(np.uint16)
        is_pair = sizes == len(VALUE_NULL)
        is_null = is_pair & (small == int.from_bytes(VALUE_NULL, "little"))
        is_bool = is_pair & (
            (small == int.from_bytes(VALUE_TRUE, "little"))
            | (small == int.from_bytes(VALUE_FALSE, "little"))
        )
        length, count = _varints(words >> np.uint64(8))
        has_length = (kinds == TEXT) | (kinds == STRUCT) | (kinds == LIST)
        has_length &= (count > 0) & (1 + count + length == sizes)
        kinds[is_null] = NULL
        inside = starts + 1 + np.where(has_length, count, 0)
        content = np.where(has_length, length, np.where(is_null, 0, sizes - 1))
        return FieldValues(kinds, inside, content), is_number | is_null | is_bool | has_length

    def list_numbers(self) -> tuple[_Integers, npt.NDArray[np.float64]] | None:
        """Return the numbers in ListValues, and how many each list has.

        None where something else is in one of them, or nothing in any.
        """
        head = len(_LIST_NUMBER)
        counts, rest = np.divmod(self.ends - self.starts, head + _WORD)
        if rest.any() or not counts.any():
            return None
        items = self._bytes[:-_WORD].reshape(-1, head + _WORD)
        if not (items[:, :head] == np.frombuffer(_LIST_NUMBER, np.uint8)).all():
            return None
        numbers = np.ascontiguousarray(items[:, head:]).view("<f8").reshape(-1)
        return counts, numbers

    def list_items(self) -> tuple[_Integers, FieldValues] | None:
        """Return the items of ListValues in their order, and how many each list has.

        None where one is not written as usual, or a few are much longer than the others.
        """
        starts, counts = self.starts.copy(), np.zeros(len(self.starts), np.int64)
        rows = np.flatnonzero(starts < self.ends)
        items = [FieldValues(*(np.zeros(0, np.int64),) * 3)]
        # The first item of each list, then the second.
        while len(rows):
            if len(items) > _LIST_ITEMS_MAX and len(rows) < _LISTS_MIN:
                return None
            words = self._words[starts[rows]]
            size, count = _varints(words >> np.uint64(8))
            value_at = starts[rows] + 1 + count
            ends = value_at + size
            fits = (words.astype(np.uint8) == FIELD_1[0]) & (count > 0) & (ends <= self.ends[rows])
            if not fits.all():
                return None
            values, has_value = self._values(value_at, size)
            if not has_value.all():
                return None
            items.append(values)
            counts[rows] += 1
            starts[rows] = ends
            rows = rows[ends < self.ends[rows]]
        columns = ([getattr(each, name) for each in items] for name in ("kinds", "starts", "sizes"))
        values = FieldValues(*(np.concatenate(column) for column in columns))
        return counts, values.take(np.argsort(values.starts))

    def numbers(self, starts: _Integers) -> npt.NDArray[np.float64]:
        """Return the doubles at these places."""
        return self._words[starts].view("<f8")

    def bools(self, starts: _Integers) -> _Bools:
        """Return the bools at these places."""
        return self._bytes[starts].astype(bool)

    def contents(self, values: FieldValues) -> pa.BinaryArray:
        """Return the bytes of contents that follow one another, with nulls for NULL."""
        rows = len(values.starts)
        if not rows:
            return pa.array([], pa.binary())
        # Every second entry of this array is what lies between two contents.
        bounds = np.empty(2 * rows, np.int32)
        bounds[0::2] = values.starts
        bounds[1::2] = values.starts + values.sizes
        buffers = [None, pa.py_buffer(bounds), pa.py_buffer(self._bytes)]
        both = pa.BinaryArray.from_buffers(pa.binary(), 2 * rows - 1, buffers)
        return both.take(pa.array(np.arange(0, 2 * rows, 2), mask=values.kinds == NULL))


def field_names(payload: bytes) -> list[bytes] | None:
    """Return the fields of one Struct in their order; None where it is not written as usual."""
    names = []
    at = 0
    try:
        while at < len(payload):
            size, key_at = _varint(payload, at + 1)
            length, name_at = _varint(payload, key_at + 1)
            tags = payload[at : at + 1] + payload[key_at : key_at + 1]
            if tags != FIELD_1 + FIELD_1 or name_at + length > key_at + size:
                return None
            name = payload[name_at : name_at + length]
            name.decode()
            names.append(name)
            at = key_at + size
    except (IndexError, UnicodeDecodeError):
        return None
    return names if at == len(payload) and len(set(names)) == len(names) else None


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    """Return a number of up to four bytes, and the place behind it."""
    value = 0
    for shift in range(0, 28, 7):
        byte = payload[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise IndexError


def _varints(words: _Words) -> tuple[_Integers, _Integers]:
    """Return the numbers at the beginning of words, and of how many bytes each is.

    It has 0 bytes where it has more than four, which no length below 256 MiB has.
    """
    low = words.astype(np.uint32).astype(np.int64)
    continued = low & 0x80
    if not continued.any():
        return low & 0x7F, np.ones(len(low), np.int64)
    count = np.ones(len(low), np.int64)
    more = continued != 0
    mask = np.full(len(low), 0x7F, np.int64)
    for byte in range(1, 4):
        count += more
        mask |= np.where(more, 0x7F << 8 * byte, 0)
        more = more & (low & (0x80 << 8 * byte) != 0)
    count[more] = 0
    low &= mask
    value = low & 0x7F
    for byte in range(1, 4):
        value |= (low & (0x7F << 8 * byte)) >> byte
    return value, count
