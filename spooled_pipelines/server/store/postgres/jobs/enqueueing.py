"""Single jobs in, many in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.batches.rules import status_when_due, when_due
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.jobs.records import Enqueued, NewJob
from spooled_pipelines.server.core.jobs.turns import ALONE, ROUND, Participant, length
from spooled_pipelines.server.store.postgres.limits.quotas import count_singly
from spooled_pipelines.server.store.postgres.reads.records import stored_key
from spooled_pipelines.server.store.postgres.transactions import (
    QueueTurn,
    StoreContext,
    Transaction,
    forgotten_meanwhile,
    run,
)

_LENGTH = length(1)


class Addition(NamedTuple):
    """A job to be stored, and where."""

    organization: int
    queue: int
    job: NewJob
    quota: int | None


async def enqueue(
    context: StoreContext, additions: Sequence[Addition]
) -> list[Enqueued | RefusedError]:
    """Store jobs, or find those that have their keys; the first of the same key wins.

    Those for which their organization's day has no room are refused, each by itself.
    """
    return await run(context, lambda tx: _enqueue(tx, additions))


async def _enqueue(tx: Transaction, additions: Sequence[Addition]) -> list[Enqueued | RefusedError]:
    jobs = [addition.job for addition in additions]
    due = when_due([job.scheduled_at for job in jobs], tx.now) or []
    keys = [
        None if job.idempotency_key is None else stored_key(job.idempotency_key) for job in jobs
    ]
    of: list[QueueTurn] = [
        (addition.queue, Participant(addition.job.priority, ALONE)) for addition in additions
    ]
    # One that is due later gets its round then.
    ready = [place for place, moment in enumerate(due) if moment is None]
    organizations = [addition.organization for addition in additions]
    numbers, following = await tx.numbers(
        Counter(organizations), _lengths(of[place] for place in ready)
    )
    # The number that each job gets if it is a new one.
    new = [numbers[organization] + n for organization, n in _counted(organizations)]
    rounds = [0] * len(jobs)
    for place in ready:
        rounds[place] = following[of[place]] // ROUND
        following[of[place]] += _LENGTH
    async with tx.pipeline():
        await tx.begin()
        added = await tx.rows(
            "add_jobs",
            now=tx.now,
            seqs=new,
            organizations=organizations,
            queues=[addition.queue for addition in additions],
            statuses=list(map(status_when_due, due)),
            priorities=[job.priority for job in jobs],
            due=due,
            rounds=rounds,
            max_retries=[job.max_retries for job in jobs],
            timeouts=[job.timeout_seconds for job in jobs],
            scheduled=[job.scheduled_at for job in jobs],
            expires=[job.expires_at for job in jobs],
            backoffs=[job.retry_backoff for job in jobs],
            keys=keys,
            tags=[job.tags for job in jobs],
            payloads=[job.payload for job in jobs],
        )
        created = {seq for (seq,) in added}
        seqs = list(new)
        missing = [place for place, seq in enumerate(seqs) if seq not in created]
        if missing:
            await tx.return_turns(_lengths(of[place] for place in missing if due[place] is None))
            # A statement of its own, which sees what was committed while the first one waited.
            found = await tx.rows(
                "find_jobs_of_keys",
                organizations=[organizations[place] for place in missing],
                keys=[keys[place] for place in missing],
            )
            if len(found) < len(missing):
                raise forgotten_meanwhile()
            for place, seq, _ in found:
                seqs[missing[place]] = seq
        refused = await _refuse_excess(tx, new, additions, created)
        if refused:
            await tx.send("remove_jobs", seqs=sorted(refused))
        for seq, addition, moment in zip(new, additions, due, strict=True):
            if seq not in created:
                tx.deltas.add_created(addition.queue, (), 0, None, duplicates=1)
            elif seq not in refused:
                tx.deltas.add_created(addition.queue, (), 1, (moment,))
                tx.deltas.expires_at(addition.job.expires_at)
        await tx.commit()
    return [
        # One that found the job of another that is refused is refused with it.
        refused.get(seq)
        or Enqueued(ids.job_id(tx.prefix, seq), created=seq in created and seq == mine)
        for mine, seq in zip(new, seqs, strict=True)
    ]


def _lengths(of: Iterable[QueueTurn]) -> dict[QueueTurn, int]:
    return {one: _LENGTH * jobs for one, jobs in Counter(of).items()}


def _counted(organizations: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield each with how many of the same came before it."""
    before: Counter[int] = Counter()
    for organization in organizations:
        yield organization, before[organization]
        before[organization] += 1


async def _refuse_excess(
    tx: Transaction, new: Sequence[int], additions: Sequence[Addition], created: set[int]
) -> dict[int, RefusedError]:
    """Return which of these new jobs, by number, exceed their organizations' quotas."""
    made: dict[int, list[int]] = {}
    quotas: dict[int, int] = {}
    for seq, addition in zip(new, additions, strict=True):
        if addition.quota is not None and seq in created:
            made.setdefault(addition.organization, []).append(seq)
            quotas[addition.organization] = addition.quota
    refused: dict[int, RefusedError] = {}
    for organization in sorted(made):
        seqs = made[organization]
        room, refusal = await count_singly(tx, organization, quotas[organization], len(seqs))
        if refusal is not None:
            refused |= dict.fromkeys(seqs[room:], refusal)
    return refused
