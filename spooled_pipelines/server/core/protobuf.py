"""Fields of protobuf messages as bytes, for what is not parsed on its way through."""

from __future__ import annotations

from functools import lru_cache

_LENGTH_DELIMITED = 2
_ONE_BYTE = 0x80


def varint(value: int) -> bytes:
    """Return a length as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, data: bytes) -> bytes:
    """Return a field that holds bytes, text or a message."""
    length = len(data)
    size = bytes((length,)) if length < _ONE_BYTE else varint(length)
    return _tag(number) + size + data


@lru_cache(maxsize=32)
def _tag(number: int) -> bytes:
    return varint(number << 3 | _LENGTH_DELIMITED)
