"""Payloads of one flat shape, as the rows of most tables are: checked by column, all rows at once.

The parser makes objects of each value and takes five times as long. Here every byte of a payload is
accounted for as well: a field's lengths are those of its value, and a value is one that JSON can
write. What is not sure is left to the parser: other shapes, nested or long values, text beyond
ASCII, and whatever is invalid, so that one place words the refusals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

_Places: TypeAlias = "npt.NDArray[np.int64]"
_Bytes: TypeAlias = "npt.NDArray[np.uint8]"
_Words: TypeAlias = "npt.NDArray[np.uint64]"

# Lengths take one byte below this.
_SHORT = 0x80
# Beyond that the parser is quicker.
_FIELDS_MAX = 64
# No field reaches further beyond what was checked than two such lengths and a word.
_PADDING = bytes(512)
_WORD = 8
# The tags of Struct.fields, of a field's name and value, and of what a Value may hold.
_ENTRY, _NAME, _VALUE = 0x0A, 0x0A, 0x12
_NULL, _NUMBER, _TEXT, _BOOL = 0x08, 0x11, 0x1A, 0x20
_NUMBER_BYTES, _SMALL_BYTES = 9, 2
_EXPONENT = np.uint64(0x7FF0 << 48)
# By how many of its bytes count: those, and the highest bit of each.
_MASKS: _Words = np.array([(1 << 8 * count) - 1 for count in range(_WORD + 1)], np.uint64)
_BEYOND_ASCII = _MASKS & np.uint64(0x8080808080808080)


def are_surely_valid(payloads: Sequence[bytes]) -> bool:
    """Return whether each has the fields of the first one, and nothing else; False says nothing.

    The first one has to be valid.
    """
    names = list(islice(_names(payloads[0]), _FIELDS_MAX + 1))
    if len(names) > _FIELDS_MAX:
        return False
    lengths = np.fromiter(map(len, payloads), np.int64, len(payloads))
    ends = np.cumsum(lengths)
    data = b"".join((*payloads, _PADDING))
    at = ends - lengths
    each = np.frombuffer(data, np.uint8)
    # The eight bytes from each byte on.
    words: _Words = np.ndarray((len(data) - _WORD + 1,), np.dtype("<u8"), data, 0, (1,))
    for name in names:
        head = bytes((_NAME, len(name))) + name + bytes((_VALUE,))
        entry_length = each[at + 1]
        value_length = each[at + 2 + len(head)]
        is_entry = (
            (each[at] == _ENTRY)
            & (entry_length < _SHORT)
            & (value_length < _SHORT)
            & (entry_length == len(head) + 1 + value_length.astype(np.int64))
        )
        if not is_entry.all() or not _begin(words, at + 2, head):
            return False
        value = at + 3 + len(head)
        if not _are_values(each, words, value, value_length):
            return False
        at = value + value_length
    return bool((at == ends).all())


def _names(payload: bytes) -> Iterator[bytes]:
    """Yield the names of its fields; any others where it has another shape."""
    at = 0
    while at + 4 < len(payload):
        name_length = payload[at + 3]
        if name_length >= _SHORT:
            return
        yield payload[at + 4 : at + 4 + name_length]
        at += 2 + payload[at + 1]


def _begin(words: _Words, places: _Places, start: bytes) -> bool:
    """Return whether these bytes are at all of the places."""
    for offset in range(0, len(start), _WORD):
        part = start[offset : offset + _WORD]
        wanted = np.uint64(int.from_bytes(part, "little"))
        if ((words[places + offset] & _MASKS[len(part)]) != wanted).any():
            return False
    return True


def _are_values(each: _Bytes, words: _Words, places: _Places, lengths: _Bytes) -> bool:
    tags = each[places]
    for tag in np.flatnonzero(np.bincount(tags)).tolist():
        chosen = tags == tag
        if chosen.all():
            of_tag, of_length = places, lengths
        else:
            of_tag, of_length = places[chosen], lengths[chosen]
        if not _are_of_tag(tag, each, words, of_tag, of_length):
            return False
    return True


def _are_of_tag(tag: int, each: _Bytes, words: _Words, places: _Places, lengths: _Bytes) -> bool:
    if tag == _NUMBER:
        is_finite = (words[places + 1] & _EXPONENT) != _EXPONENT
        return bool((is_finite & (lengths == _NUMBER_BYTES)).all())
    if tag == _TEXT:
        text_lengths = each[places + 1].astype(np.int64)
        if not (lengths == text_lengths + 2).all():
            return False
        return _are_ascii(words, places + 2, text_lengths)
    highest = {_NULL: 0, _BOOL: 1}.get(tag)
    if highest is None:
        return False
    return bool(((each[places + 1] <= highest) & (lengths == _SMALL_BYTES)).all())


def _are_ascii(words: _Words, places: _Places, left: _Places) -> bool:
    while len(places):
        if (words[places] & _BEYOND_ASCII[np.minimum(left, _WORD)]).any():
            return False
        longer = left > _WORD
        places, left = places[longer] + _WORD, left[longer] - _WORD
    return True
