"""Protobuf messages as bytes, where these are not parsed on their way through."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
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


def takes_bytes(method: F) -> F:
    """Mark an RPC's method that gets its messages as bytes, and parses them itself."""
    method.__dict__["takes_bytes"] = True
    return method


def parses_itself(method: Callable[..., Any]) -> bool:
    """Return whether an RPC's method is marked so."""
    return bool(getattr(method, "takes_bytes", False))
