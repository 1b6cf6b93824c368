"""Whether a row's payload is the one that its job has, and whether the job gets it where not.

What is compared is the payload that the job has, and of jobs whose payload was taken away long
after they settled a hash of it. A hash kept with every job would say no more: it would cost each
row 16 bytes and half a microsecond when it is enqueued, and this costs only rows that come again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

from spooled_pipelines.wire.well_known import Struct

_DIGEST_BYTES = 16


class KeptPayload(NamedTuple):
    """A job's payload; its digest instead where it was taken away.

    Payloads that are equal have the same length, in whatever order their fields are. So `payload`
    is None where no row that is compared is as long: what is read is never more than what came.
    """

    seq: int
    queue: int
    status: int
    payload: bytes | None
    digest: bytes | None


class Comparison(NamedTuple):
    """Rows by place that have another payload than their job, and those whose payload it gets."""

    changed: list[int]
    replaced: list[int]
    # What each job gets, by its number: of several rows the last.
    payloads: dict[int, bytes]


def compare(
    rows: Iterable[tuple[int, int, bytes]],
    kept: Iterable[KeptPayload],
    queue: int,
    replaceable: Sequence[int],
) -> Comparison:
    """Compare rows (place, number of the job, payload) with their jobs, one after the other.

    Jobs in a `replaceable` status get the row's payload, if theirs was not taken away. Those of
    other queues are passed over: those who may send to this queue may know nothing of them.
    """
    jobs: dict[int, KeptPayload] = {}
    for job in kept:
        # A job is there once for each length that its rows have.
        if job.queue == queue and (job.payload is not None or job.seq not in jobs):
            jobs[job.seq] = job
    found = Comparison([], [], {})
    for place, seq, payload in rows:
        mine = jobs.get(seq)
        if mine is None or not differs(payload, mine):
            continue
        found.changed.append(place)
        if mine.status in replaceable and mine.digest is None:
            found.replaced.append(place)
            found.payloads[seq] = payload
            jobs[seq] = mine._replace(payload=payload)
    return found


def differs(payload: bytes, job: KeptPayload) -> bool:
    """Return whether the payload is another one than the job's, by value."""
    if job.digest is not None:
        return payload_digest(payload) != job.digest
    if job.payload is None or len(payload) != len(job.payload):
        return True
    return payload != job.payload and _canonical(payload) != _canonical(job.payload)


def payload_digest(payload: bytes) -> bytes:
    """Return the hash of a payload, the same in whatever order its fields are."""
    return blake2b(_canonical(payload), digest_size=_DIGEST_BYTES).digest()


def _canonical(payload: bytes) -> bytes:
    data: bytes = Struct.FromString(payload).SerializeToString(deterministic=True)
    return data
