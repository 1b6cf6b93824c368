"""Leases out: each claim a statement, many claims in one transaction."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from spooled_pipelines.server.core.jobs.records import JobRecord, Status
from spooled_pipelines.server.core.runtime.notifier import CommitEvent, QualifiedName
from spooled_pipelines.server.store.limits import SWEEP_JOBS
from spooled_pipelines.server.store.postgres.jobs.sweeping import count_released
from spooled_pipelines.server.store.postgres.limits import queue_limits
from spooled_pipelines.server.store.postgres.reads.records import job_records
from spooled_pipelines.server.store.postgres.transactions import (
    Cursor,
    Rows,
    StoreContext,
    Transaction,
    run,
)
from spooled_pipelines.server.store.postgres.transactions.claim_front import Ranges
from spooled_pipelines.server.store.requests import ClaimRequest

# What others had locked is looked at again after this: they may have died before they took it.
_PASSED_OVER_SECONDS = 0.1


class QueueClaim(NamedTuple):
    """A claim with the queue's number."""

    topic: QualifiedName
    queue: int
    request: ClaimRequest


class _Claimed(NamedTuple):
    rows: list[Rows]
    jobs: list[list[JobRecord]]
    # How long it took to look at queues from their start.
    seconds: dict[int, float]
    # Queues with jobs that are claimable and were not taken, by claims that wanted more.
    passed_over: set[QualifiedName]


class _Left(NamedTuple):
    """What claims that got less than they wanted have left over."""

    passed_over: set[QualifiedName]
    # When the limits of a queue let more out.
    held_until: dict[QualifiedName, int]


async def claim(context: StoreContext, claims: Sequence[QueueClaim]) -> list[list[JobRecord]]:
    """Return for each claim its jobs: highest priority first, then oldest."""
    async with context.claim_turn():
        queues = {claim.queue for claim in claims}
        ranges = {queue: context.fronts[queue].ranges() for queue in queues}
        versions = {queue: context.fronts[queue].version for queue in queues}
        with context.claiming():
            claimed = await run(context, lambda tx: _claim(tx, claims, ranges))
        for claim, rows in zip(claims, claimed.rows, strict=True):
            front, seconds = context.fronts[claim.queue], claimed.seconds.get(claim.queue)
            if seconds is None and len(rows) < claim.request.limit:
                front.forget()
            front.claimed(versions[claim.queue], rows, seconds)
    for jobs in claimed.jobs:
        context.leases.update((job.seq, job.lease_id or "") for job in jobs)
    if claimed.passed_over:
        asyncio.get_running_loop().call_later(
            _PASSED_OVER_SECONDS, context.publish, CommitEvent(ready_queues=claimed.passed_over)
        )
    return claimed.jobs


async def _claim(
    tx: Transaction, claims: Sequence[QueueClaim], ranges: Mapping[int, Ranges | None]
) -> _Claimed:
    began = time.monotonic()
    async with tx.pipeline():
        await tx.begin()
        # The timer may be a moment behind; a claim is not.
        release = await tx.start("release_due", now=tx.now, limit=SWEEP_JOBS)
        # By queue: each keeps a lock on the row of its round.
        started = {
            place: await _start(tx, claim, ranges[claim.queue])
            for place, claim in sorted(enumerate(claims), key=lambda one: one[1].queue)
        }
        await count_released(tx, await release.fetchall())
        found = [sorted(await started[place].fetchall()) for place in range(len(claims))]
        taken = time.monotonic() - began
        seconds = {queue: taken for queue, behind in ranges.items() if behind is None}
        seconds |= await _look_from_the_start(tx, claims, found, set(seconds))
        left = await _look_at_the_rest(tx, claims, found, set(seconds))
        await _count(tx, claims, found)
        await tx.commit()
    tx.changes.held_until = left.held_until
    jobs = [
        job_records(tx.prefix, list(zip(*rows, strict=True))[5:], claim.topic[1]) if rows else []
        for claim, rows in zip(claims, found, strict=True)
    ]
    return _Claimed(found, jobs, seconds, left.passed_over)


async def _start(tx: Transaction, claim: QueueClaim, ranges: Ranges | None) -> Cursor:
    values = _values(tx, claim, claim.request.limit)
    if ranges is None:
        return await tx.start("claim_jobs", **values, counted=False)
    return await tx.start("claim_jobs_behind", **values, **ranges._asdict())


async def _look_from_the_start(
    tx: Transaction, claims: Sequence[QueueClaim], found: list[Rows], looked: set[int]
) -> dict[int, float]:
    """Claim again, all there is, where claims that began further on found nothing.

    Return how long it took by queue.
    """
    seconds = {}
    for place, claim in enumerate(claims):
        if claim.queue not in looked and not found[place]:
            began = time.monotonic()
            values = _values(tx, claim, claim.request.limit)
            found[place] = sorted(await tx.rows("claim_jobs", **values, counted=False))
            seconds[claim.queue] = time.monotonic() - began
    return seconds


async def _look_at_the_rest(
    tx: Transaction, claims: Sequence[QueueClaim], found: list[Rows], looked: set[int]
) -> _Left:
    """Find out why claims got less than they wanted, and claim of queues with limits.

    Of queues that are not `looked` at from their start it is not known: others look again.
    """
    hungry = {
        claim.queue: claim.topic
        for claim, rows in zip(claims, found, strict=True)
        if len(rows) < claim.request.limit
    }
    left = _Left(set(), {})
    with_limits = set()
    for queue, topic in hungry.items():
        if queue not in looked:
            left.passed_over.add(topic)
            continue
        ((is_claimable, has_limits),) = await tx.rows("find_leftovers", queue=queue)
        if has_limits:
            with_limits.add(queue)
        elif is_claimable:
            left.passed_over.add(topic)
    if with_limits:
        await _claim_within_limits(tx, claims, found, with_limits, left)
    return left


async def _claim_within_limits(
    tx: Transaction,
    claims: Sequence[QueueClaim],
    found: list[Rows],
    queues: set[int],
    left: _Left,
) -> None:
    limited = await queue_limits.locked(tx, queues)
    for place, claim in enumerate(claims):
        # What has jobs got them before the limits were set.
        if claim.queue not in queues or found[place]:
            continue
        limits = limited.get(claim.queue)
        room = claim.request.limit if limits is None else min(claim.request.limit, limits.room)
        if room:
            rows = await tx.rows("claim_jobs", **_values(tx, claim, room), counted=True)
            found[place] = sorted(rows)
        taken = len(found[place])
        if limits is not None:
            limits.count(taken)
        if taken < room:
            ((is_claimable, _),) = await tx.rows("find_leftovers", queue=claim.queue)
            if is_claimable:
                left.passed_over.add(claim.topic)
        elif limits is not None and taken < claim.request.limit:
            moment = limits.held_until(tx.now)
            if moment is not None:
                left.held_until[claim.topic] = moment
    await queue_limits.write(tx, limited)


async def _count(tx: Transaction, claims: Sequence[QueueClaim], found: Sequence[Rows]) -> None:
    # Of a row: place, batch, linked, priority, round, then the record, whose first is the number.
    batches = await tx.batches_of((row[5], row[1], row[2]) for rows in found for row in rows)
    for claim, rows in zip(claims, found, strict=True):
        for of, count in Counter(batches[row[5]] for row in rows).items():
            tx.deltas.move(claim.queue, of, Status.PENDING, Status.PROCESSING, count=count)
        if rows:
            ends_at, worker_id = tx.now + claim.request.lease_ms, claim.request.worker_id
            tx.deltas.due_at(ends_at)
            tx.leased += [(ends_at, worker_id, row[5]) for row in rows]


def _values(tx: Transaction, claim: QueueClaim, limit: int) -> dict[str, Any]:
    return {
        "queue": claim.queue,
        "limit": limit,
        "worker": claim.request.worker_id,
        "now": tx.now,
        "expiry": tx.now + claim.request.lease_ms,
        "budget": claim.request.max_bytes,
        "lease": claim.request.lease_id,
    }
