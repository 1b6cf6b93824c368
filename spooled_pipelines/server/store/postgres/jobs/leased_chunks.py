"""Jobs of one lease settled and renewed together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import cast

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.jobs.settlements import ChunkSettlement, LeasedJobs
from spooled_pipelines.server.store import Settled
from spooled_pipelines.server.store.postgres.jobs import settling
from spooled_pipelines.server.store.postgres.transactions import StoreContext, Transaction, run


async def settle(
    context: StoreContext, organization: str, settlement: ChunkSettlement
) -> dict[int, Settled]:
    """Complete all but the exceptions in one statement; then the others, and what is refused."""
    jobs, results, exceptions = settlement
    owner, queue = await _place(context, organization, jobs)
    seqs = ids.job_numbers(context.prefix, jobs.job_ids)
    # Locked in the order of their numbers, as everywhere.
    completing = sorted(
        (seq, results[place] if results else None)
        for place, seq in enumerate(seqs)
        if seq is not None and place not in exceptions
    )
    done: set[int | None] = set()
    if completing:
        done |= await run(context, lambda tx: _complete(tx, queue, jobs, completing))
    outcomes: dict[int, Settled] = {}
    requests: dict[int, settling.SettleRequest] = {}
    for place in (place for place, seq in enumerate(seqs) if seq not in done):
        act = settlement.act(place)
        if isinstance(act, RefusedError):
            outcomes[place] = act
        else:
            requests[place] = settling.SettleRequest(owner, jobs.holder(place), act, queue)
    if requests:
        judged = await run(context, lambda tx: settling.judge(tx, list(requests.values())))
        outcomes.update(zip(requests, cast("list[Settled]", judged), strict=True))
    return outcomes


async def renew(
    context: StoreContext, organization: str, jobs: LeasedJobs, lease_ms: int
) -> list[int]:
    """Let the lease last this long from now; return the places of the jobs that are lost."""
    _, queue = await _place(context, organization, jobs)
    seqs = ids.job_numbers(context.prefix, jobs.job_ids)

    async def body(tx: Transaction) -> set[int]:
        async with tx.pipeline():
            await tx.begin()
            rows = await tx.rows(
                "renew_chunk",
                queue=queue,
                seqs=sorted(seq for seq in seqs if seq is not None),
                worker=jobs.worker_id,
                lease=jobs.lease_id,
                now=tx.now,
                expiry=tx.now + lease_ms,
            )
            tx.leased += [(tx.now + lease_ms, worker_id or "", seq) for seq, worker_id in rows]
            await tx.commit()
        return {seq for seq, _ in rows}

    renewed = await run(context, body)
    return [place for place, seq in enumerate(seqs) if seq not in renewed]


async def _complete(
    tx: Transaction,
    queue: int,
    jobs: LeasedJobs,
    completing: Sequence[tuple[int, bytes | None]],
) -> set[int]:
    """Complete jobs in one statement; return the numbers of those whose lease lives."""
    async with tx.pipeline():
        await tx.begin()
        rows = await tx.rows(
            "complete_chunk",
            queue=queue,
            seqs=[seq for seq, _ in completing],
            results=[result for _, result in completing],
            worker=jobs.worker_id,
            lease=jobs.lease_id,
            now=tx.now,
        )
        tx.settled += [row[0] for row in rows]
        batches = await tx.batches_of((seq, batch, linked) for seq, batch, linked, _ in rows)
        for of, count in Counter(batches[row[0]] for row in rows).items():
            tx.deltas.move(queue, of, Status.PROCESSING, Status.COMPLETED, count=count)
        capped = (row[3] for row in rows)
        tx.deltas.leases_ended((row[0] for row in rows), jobs.lease_id, queue, capped)
        await tx.commit()
    return {row[0] for row in rows}


async def _place(context: StoreContext, organization: str, jobs: LeasedJobs) -> tuple[int, int]:
    """Return the numbers of organization and queue; of a queue that is not there, one of none."""
    owner = await context.owner(organization)
    return await context.find_place(organization, jobs.queue_name) or (owner, -1)
