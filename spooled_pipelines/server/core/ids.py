"""Ids of jobs and leases.

A job's number is that of its organization, and below it the job's place among the jobs of this
organization alone: what others make does not show. Its id is a UUID (version 8) of the store's own
digits, five of the organization and, at the end, twelve of the place. So an id needs no index, and
those of an organization sort by age. The numbers of the first organization are the places.
"""

from __future__ import annotations

import os
import re
import secrets
import uuid
from collections.abc import Sequence

# What places take of a number: 11 digits. The rest of 62 bits is the organization's.
PLACE_BITS = 44
ORGANIZATIONS_MAX = 1 << 62 - PLACE_BITS
_PLACES = 1 << PLACE_BITS
# In an id, behind the 16 characters of the store.
_REST = re.compile("([0-3][0-9a-f])-([89ab])([0-9a-f]{3})-0([0-9a-f]{11})")
_STORE, _VARIANT, _START = 16, 19, 24
_PLACE_DIGITS = 12
_DIGITS = re.compile("[0-9a-f]*")
_LEASE_BYTES = 16
# The share of the places that are left which a restore may pass over.
_RESTORES = 16
# Where all of so many are taken, the store is about full, and the lowest that is free is as good.
_CHANCES = 32


def new_prefix() -> str:
    """Return the 24 characters that ids of the first organization of a new store begin with."""
    digits = uuid.uuid4().hex
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13]}00-{variant}000-"


def numbers_of(organization: int) -> range:
    """Return the numbers that jobs of an organization may have."""
    first = organization - 1 << PLACE_BITS
    return range(first, first + _PLACES)


def numbers_of_a_new_organization() -> list[int]:
    """Return numbers of which a new organization gets the first that is free.

    The first organization gets 1, and any other one by chance: it does not tell how many there are.
    """
    return [1, *(2 + secrets.randbelow(ORGANIZATIONS_MAX - 1) for _ in range(_CHANCES))]


def id_start(prefix: str, seq: int) -> str:
    """Return the 24 characters that all ids begin with of this job's organization."""
    organization = seq >> PLACE_BITS
    if not organization:
        return prefix
    high, low = divmod(organization, 1 << 12)
    return f"{prefix[:_STORE]}{high:02x}-{prefix[_VARIANT]}{low:03x}-"


def job_id(prefix: str, seq: int) -> str:
    """Return the id of the job with this number."""
    if seq < _PLACES:
        return f"{prefix}{seq:012x}"
    return f"{id_start(prefix, seq)}{seq % _PLACES:012x}"


def job_ids(prefix: str, seqs: Sequence[int]) -> list[str]:
    """Return the ids of the jobs with these numbers."""
    organizations = {seq >> PLACE_BITS for seq in seqs}
    if len(organizations) != 1:
        return [job_id(prefix, seq) for seq in seqs]
    start, first = id_start(prefix, seqs[0]), organizations.pop() << PLACE_BITS
    return [f"{start}{seq - first:012x}" for seq in seqs]


def place_after_restore(following: int) -> int:
    """Return the place to go on from in a store that was restored from a backup.

    What was handed out since the backup is not known. So far ahead by chance, neither those places
    nor those of another restored copy come again.
    """
    left = _PLACES - following
    return following + 1 + secrets.randbelow(max(left // _RESTORES, 1))


def job_number(prefix: str, text: str) -> int | None:
    """Return the number in an id of this store; None if it is not one."""
    found = _REST.fullmatch(text, _STORE)
    if not found or text[:_STORE] != prefix[:_STORE] or found[2] != prefix[_VARIANT]:
        return None
    high, _, low, place = found.groups()
    return int(high + low + place, 16)


def job_numbers(prefix: str, texts: Sequence[str]) -> list[int | None]:
    """Return `job_number` of each."""
    digits = [text[_START:] for text in texts]
    # At once where all are such ids of one organization.
    if (
        len({text[: _START + 1] for text in texts}) == 1
        and set(map(len, digits)) == {_PLACE_DIGITS}
        and _DIGITS.fullmatch("".join(digits))
        and (number := job_number(prefix, texts[0])) is not None
    ):
        first = number - int(digits[0], 16)
        return [first + int(place, 16) for place in digits]
    return [job_number(prefix, text) for text in texts]


def new_lease_id() -> str:
    """Return a fencing token that cannot be guessed."""
    return os.urandom(_LEASE_BYTES).hex()


def new_worker_id() -> str:
    """Return an id for a worker that has none."""
    return f"worker-{uuid.uuid4().hex}"
