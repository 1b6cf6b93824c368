"""Idempotency keys as bytes: those that are a hash take half the room."""

from __future__ import annotations

import re
from collections.abc import Sequence

_HEX_LENGTH, _DIGEST_BYTES = 32, 16
_HEX_KEY = re.compile(f"[0-9a-f]{{{_HEX_LENGTH}}}")
_HEX_DIGITS = re.compile("[0-9a-f]*")


def digest_of(key: str) -> bytes | None:
    """Return the 16 bytes of a key that is 32 lower-case hex digits; None for any other."""
    return bytes.fromhex(key) if _HEX_KEY.fullmatch(key) else None


def digests_of(keys: Sequence[str]) -> list[bytes] | None:
    """Return the bytes of each key where every one is such a hash; else None."""
    joined = "".join(keys)
    if set(map(len, keys)) != {_HEX_LENGTH} or not _HEX_DIGITS.fullmatch(joined):
        return None
    digests = bytes.fromhex(joined)
    places = range(0, len(digests), _DIGEST_BYTES)
    return [digests[start : start + _DIGEST_BYTES] for start in places]
