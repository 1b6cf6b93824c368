"""Ends and renewals of leases, many in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.errors import RefusedError, not_found
from spooled_pipelines.server.core.jobs.counter_deltas import LockedJob
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.jobs.rules import (
    Renewal,
    ends_of_death,
    fail_outcome,
    why_not_held,
)
from spooled_pipelines.server.core.jobs.settlements import (
    Act,
    Completion,
    Death,
    FailOutcome,
    Failure,
    GiveBack,
    LeaseHolder,
)
from spooled_pipelines.server.store.postgres.limits.queue_limits import slow_down
from spooled_pipelines.server.store.postgres.transactions import StoreContext, Transaction, run
from spooled_pipelines.server.store.requests import DeadWorker, LostClaims


class SettleRequest(NamedTuple):
    """What someone says about a job that it holds."""

    organization: int
    holder: LeaseHolder
    act: Act | Renewal
    # Only a job of this queue.
    queue: int | None = None


class FastCompletion(NamedTuple):
    """A completion: the job's number, and which of those asked for it is."""

    seq: int
    place: int
    organization: int
    holder: LeaseHolder
    result: bytes | None


Settled = FailOutcome | int | None


def is_not_held(error: BaseException) -> bool:
    """Return whether the store refused since the job is not the holder's."""
    return isinstance(error, RefusedError) and error.code in ("NOT_FOUND", "FAILED_PRECONDITION")


async def settle(
    context: StoreContext, requests: Sequence[SettleRequest]
) -> list[Settled | RefusedError]:
    """Return for each, in turn, the outcome (a renewal's is when the lease ends) or why not."""
    outcomes: list[Settled | RefusedError] = [None] * len(requests)
    fast = fast_completions(context.prefix, requests)
    completed = await run(context, lambda tx: _complete(tx, fast)) if fast else set()
    # Whatever was not fast enough, or refused: here it is found out why.
    rest = [place for place in range(len(requests)) if place not in completed]
    if rest:
        given = [requests[place] for place in rest]
        judged = await run(context, lambda tx: judge(tx, given))
        for place, outcome in zip(rest, judged, strict=True):
            outcomes[place] = outcome
    return outcomes


def fast_completions(prefix: str, requests: Sequence[SettleRequest]) -> list[FastCompletion]:
    """Return those that name a lease and are all that is said about their job."""
    numbers = [ids.job_number(prefix, request.holder.job_id) for request in requests]
    said = Counter(numbers)
    return [
        FastCompletion(number, place, organization, holder, act.result)
        for place, (number, (organization, holder, act, _)) in enumerate(
            zip(numbers, requests, strict=True)
        )
        if isinstance(act, Completion)
        and number is not None
        and said[number] == 1
        and holder.lease_id
    ]


async def _complete(tx: Transaction, completions: Sequence[FastCompletion]) -> set[int]:
    """Complete jobs whose leases live, in one statement; returns the places of those that were.

    Each job comes once. The others are not their holder's, and are left as they are.
    """
    places = {each.seq: each.place for each in completions}
    # Locked in the order of their numbers, as everywhere.
    ordered = sorted(completions)
    async with tx.pipeline():
        await tx.begin()
        rows = await tx.rows(
            "complete_jobs",
            now=tx.now,
            seqs=[each.seq for each in ordered],
            organizations=[each.organization for each in ordered],
            workers=[each.holder.worker_id for each in ordered],
            leases=[each.holder.lease_id for each in ordered],
            results=[each.result for each in ordered],
        )
        tx.settled += [row[0] for row in rows]
        leases = {each.seq: each.holder.lease_id for each in completions}
        batches = await tx.batches_of((seq, batch, linked) for seq, _, batch, linked, _ in rows)
        moved = Counter((queue, batches[seq]) for seq, queue, *_ in rows)
        for (queue, of), count in moved.items():
            tx.deltas.move(queue, of, Status.PROCESSING, Status.COMPLETED, count=count)
        for seq, queue, _, _, is_capped in rows:
            tx.deltas.lease_ended(seq, leases[seq], queue, is_capped)
        await tx.commit()
    return {places[row[0]] for row in rows}


async def judge(tx: Transaction, requests: Sequence[SettleRequest]) -> list[Settled | RefusedError]:
    """Do each in turn, or find out why not."""
    numbers = [ids.job_number(tx.prefix, request.holder.job_id) for request in requests]
    wanted = sorted({number for number in numbers if number is not None})
    async with tx.pipeline():
        await tx.begin()
        jobs = {job.seq: job for job in await tx.locked("lock_jobs", seqs=wanted)}
        outcomes = [
            _apply(tx, jobs.get(number or 0), request)
            for number, request in zip(numbers, requests, strict=True)
        ]
        if tx.deltas.throttled:
            await slow_down(tx)
        await tx.write(jobs.values())
        await tx.commit()
    return outcomes


async def take_back(context: StoreContext, organization: str, lost: LostClaims) -> int:
    """Give back what was claimed without an answer; return how many jobs."""
    place = await context.find_place(organization, lost.queue_name)
    return 0 if place is None else await run(context, partial(_take_back, place[1], lost))


async def _take_back(queue: int, lost: LostClaims, tx: Transaction) -> int:
    values = {"queue": queue, "worker_id": lost.worker_id, "leases": list(lost.lease_ids)}
    async with tx.pipeline():
        await tx.begin()
        held = await tx.locked("lock_unanswered", **values)
        for job in held:
            tx.deltas.apply(job, GiveBack(), tx.now)
        await tx.write(held)
        await tx.commit()
    return len(held)


async def end_worker(context: StoreContext, organization: str, worker: DeadWorker) -> int:
    """End every lease of a worker whose process died."""
    owner = await context.owner(organization)
    return await run(context, lambda tx: _end_worker(tx, owner, context, worker))


async def _end_worker(
    tx: Transaction, owner: int, context: StoreContext, worker: DeadWorker
) -> int:
    async with tx.pipeline():
        await tx.begin()
        held = await tx.locked("lock_held", organization=owner, worker_id=worker.worker_id)
        if worker.queues is not None:
            queues = {job.queue for job in held}
            topics = await context.names.queue_topics(tx.connection, queues)
            held = [job for job in held if topics[job.queue][1] in worker.queues]
        running = [worker.ran(ids.job_id(tx.prefix, job.seq)) for job in held]
        ends = ends_of_death(running, worker.error, worker.exit_code)
        for job, end in zip(held, ends, strict=True):
            tx.deltas.apply(job, end, tx.now)
        await tx.write(held)
        await tx.commit()
    return len(held)


def _apply(
    tx: Transaction, job: LockedJob | None, request: SettleRequest
) -> Settled | RefusedError:
    """Do it to the job in hand; the next one that settles it finds it so."""
    holder, act = request.holder, request.act
    if (
        job is None
        or job.organization != request.organization
        or request.queue not in (None, job.queue)
    ):
        return not_found(f"there is no job {holder.job_id!r}")
    refusal = why_not_held(job.state, holder, tx.now)
    if refusal is not None:
        return refusal
    tx.deltas.apply(job, act, tx.now)
    if isinstance(act, Failure | Death) or job.state.status == Status.DEADLETTER:
        return fail_outcome(job.state, tx.now)
    return job.state.lease_expires_at if isinstance(act, Renewal) else None
