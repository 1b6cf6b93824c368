"""Page tokens that tell nothing: of numbers that count what all organizations have.

A token is a number encrypted under a key of the store, with a check of what it is a page of, so
that nobody can read it, change it, or use it for another listing. The same page has the same token.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import blake2b

from spooled_pipelines.server.core.errors import invalid, shortened

_BYTES = 8


def new_page_key() -> bytes:
    """Return what the page tokens of a new store are made with."""
    return secrets.token_bytes(32)


class PageTokens:
    """The page tokens of one store."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def token(self, listing: str, organization: str | None, number: int) -> str:
        """Return the token of the page of a listing that goes on at this number."""
        about = f"{listing} {organization or ''}".encode()
        plain = number.to_bytes(_BYTES, "big")
        check = self._hash(b"check", about + plain)
        return (check + self._mask(check, plain)).hex()

    def number(self, listing: str, organization: str | None, token: str) -> int:
        """Return the number in a token; 0 where there is no token.

        RefusedError where it is not one of this listing, organization and store.
        """
        if not token:
            return 0
        try:
            found = bytes.fromhex(token)
        except ValueError:
            found = b""
        number = int.from_bytes(self._mask(found[:_BYTES], found[_BYTES : 2 * _BYTES]), "big")
        if not hmac.compare_digest(
            self.token(listing, organization, number).encode(), token.encode()
        ):
            raise invalid(f"page_token {shortened(token)} is not one that this server gave out")
        return number

    def _mask(self, check: bytes, data: bytes) -> bytes:
        pad = self._hash(b"mask", check)
        return bytes(a ^ b for a, b in zip(data, pad, strict=False))

    def _hash(self, use: bytes, data: bytes) -> bytes:
        return blake2b(data, digest_size=_BYTES, key=self._key, person=use).digest()
