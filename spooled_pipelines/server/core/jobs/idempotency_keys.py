"""Idempotency keys as bytes: those that are a hash take half the room."""

from __future__ import annotations

import re
from collections.abc import Sequence

_HEX_LENGTH, _DIGEST_BYTES = 32, 16
_HEX_KEY = re.compile(f"[0-9a-f]{{{_HEX_LENGTH}}}")


def digest_of(key: str) -> bytes | None:
    """Return the 16 bytes of a key that is 32 lower-case hex digits; None for any other."""
    return bytes.fromhex(key) if _HEX_KEY.fullmatch(key) else None


def digests_of(keys: Sequence[str], mark: bytes = b"") -> list[bytes] | None:
    """Return the bytes of each key, behind a mark, where every one is such a hash; else None."""
    if set(map(len, keys)) != {_HEX_LENGTH}:
        return None
    text = mark.hex().join(("", *keys))
    try:
        digests = bytes.fromhex(text)
    except ValueError:
        return None
    # Upper-case digits and spaces are not part of a hash.
    if digests.hex() != text:
        return None
    step = len(mark) + _DIGEST_BYTES
    return [digests[start : start + step] for start in range(0, len(digests), step)]
