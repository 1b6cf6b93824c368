"""Ids of jobs and leases.

A job's id is a UUID (version 8) whose last 12 digits are the job's number in its store and whose
other digits are the store's own. So an id needs no index, and sorts by age.
"""

from __future__ import annotations

import os
import re
import secrets
import uuid
from collections.abc import Iterable, Sequence

_NUMBER_DIGITS = 12
_NUMBER = re.compile(f"[0-9a-f]{{{_NUMBER_DIGITS}}}")
_DIGITS = re.compile("[0-9a-f]*")
_LEASE_BYTES = 16
# The share of the numbers that are left which a restore may pass over.
_RESTORES = 16


def new_prefix() -> str:
    """Return the 24 characters that the ids of a new store begin with."""
    digits = uuid.uuid4().hex
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-{variant}{digits[17:20]}-"


def job_id(prefix: str, seq: int) -> str:
    """Return the id of the job with this number."""
    return f"{prefix}{seq:012x}"


def job_ids(prefix: str, seqs: Iterable[int]) -> list[str]:
    """Return the ids of the jobs with these numbers."""
    return [f"{prefix}{seq:012x}" for seq in seqs]


def number_after_restore(following: int) -> int:
    """Return the number to go on from in a store that was restored from a backup.

    What was handed out since the backup is not known. So far ahead by chance, neither those numbers
    nor those of another restored copy come again.
    """
    left = 16**_NUMBER_DIGITS - following
    return following + 1 + secrets.randbelow(max(left // _RESTORES, 1))


def job_number(prefix: str, text: str) -> int | None:
    """Return the number in an id of this store; None if it is not one."""
    number = text[len(prefix) :]
    if not text.startswith(prefix) or not _NUMBER.fullmatch(number):
        return None
    return int(number, 16)


def job_numbers(prefix: str, texts: Sequence[str]) -> list[int | None]:
    """Return `job_number` of each."""
    start = len(prefix)
    digits = [text[start:] for text in texts]
    # At once where all are such ids.
    if (
        {text[:start] for text in texts} == {prefix}
        and set(map(len, digits)) == {_NUMBER_DIGITS}
        and _DIGITS.fullmatch("".join(digits))
    ):
        return [int(number, 16) for number in digits]
    return [job_number(prefix, text) for text in texts]


def new_lease_id() -> str:
    """Return a fencing token that cannot be guessed."""
    return os.urandom(_LEASE_BYTES).hex()


def new_worker_id() -> str:
    """Return an id for a worker that has none."""
    return f"worker-{uuid.uuid4().hex}"
