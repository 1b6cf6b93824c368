"""Protobuf's wire format, as far as rows need it: field tags, lengths, numbers.

A field tag is the field's number times eight plus its wire type (0 varint, 1 eight bytes, 2 a
length and that many bytes).
"""

from __future__ import annotations

import struct

# google.protobuf.Value, by what it holds.
VALUE_NULL = b"\x08\x00"
VALUE_NUMBER = b"\x11"
VALUE_STRING = b"\x1a"
VALUE_FALSE, VALUE_TRUE = b"\x20\x00", b"\x20\x01"
VALUE_STRUCT = b"\x2a"
VALUE_LIST = b"\x32"

# Struct.fields and ListValue.values are both field 1; in a map entry 1 is the key, 2 the value.
FIELD_1 = b"\x0a"
FIELD_2 = b"\x12"

# The fields that an EnqueueRequest and a JobChunk share.
PAYLOAD = b"\x12"
PRIORITY = b"\x18"
MAX_RETRIES = b"\x20"
TIMEOUT_SECONDS = b"\x28"
SCHEDULED_AT = b"\x32"
IDEMPOTENCY_KEY = b"\x3a"
# JobChunk alone (in an EnqueueRequest the same number is an entry of the map itself).
CHUNK_TAGS = b"\x42"
CHUNK_NUMBER = b"\x48"
CHUNK_RETRY_BACKOFF = b"\x52"
CHUNK_FAIR_KEY = b"\xa2\x01"
CHUNK_EXPIRES_AT = b"\x5a"
CHUNK_LIMIT_KEY = b"\xaa\x01"
# EnqueueBatchRequest.chunk
REQUEST_CHUNK = b"\x12"

_DOUBLE = struct.Struct("<d")


_SMALL = tuple(bytes((value,)) for value in range(0x80))


def varint(value: int) -> bytes:
    """Return `value` as a base-128 varint; a negative one as its 64-bit two's complement."""
    if 0 <= value <= 0x7F:
        return _SMALL[value]
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def double(value: float) -> bytes:
    """Return the eight bytes of a number."""
    return _DOUBLE.pack(value)


def bytes_field(field_tag: bytes, content: bytes) -> bytes:
    """Return a length-delimited field."""
    return field_tag + varint(len(content)) + content


def timestamp(nanoseconds: int) -> bytes:
    """Return the content of a google.protobuf.Timestamp."""
    seconds, nanos = divmod(nanoseconds, 1_000_000_000)
    return b"\x08" + varint(seconds) + (b"\x10" + varint(nanos) if nanos else b"")
