"""Completions of jobs whose leases live: one statement does them all, and says which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from spooled_pipelines.server.core.records import Holder, Status
from spooled_pipelines.server.store.postgres.transaction import Transaction


class Plain(NamedTuple):
    """A completion: the job's number, and which of those asked for it is."""

    seq: int
    place: int
    organization: int
    holder: Holder
    result: bytes | None


async def complete(tx: Transaction, completions: Sequence[Plain]) -> set[int]:
    """Complete the jobs, each of which comes once; returns the places of those that were.

    The others are not their holder's, and are left as they are.
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
        leases = {each.seq: each.holder.lease_id for each in completions}
        batches = await tx.batches_of((seq, batch, linked) for seq, _, batch, linked, _ in rows)
        moved = Counter((queue, batches[seq]) for seq, queue, *_ in rows)
        for (queue, of), count in moved.items():
            tx.tally.move(queue, of, Status.PROCESSING, Status.COMPLETED, count=count)
        tx.tally.released.extend((row[0], leases[row[0]]) for row in rows)
        # Of a queue with so many in flight at most, the end of a lease makes room.
        tx.tally.ready_queues.update(row[1] for row in rows if row[4])
        await tx.commit()
    return {places[row[0]] for row in rows}
