"""Jobs of one lease settled and renewed together, within a transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import accumulate

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.errors import RefusedError, not_found
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.jobs.settlements import ChunkSettlement, LeasedJobs, Settlement
from spooled_pipelines.server.store import Settled
from spooled_pipelines.server.store.sqlite.jobs import settling
from spooled_pipelines.server.store.sqlite.transactions import Transaction

_LENGTH_BITS = 24


def settle(tx: Transaction, organization: str, settlement: ChunkSettlement) -> dict[int, Settled]:
    """Complete all but the exceptions at once; the others, and what is refused, one by one."""
    jobs = settlement.jobs
    queue = tx.names.known_queue(tx.names.organization(organization), jobs.queue_name)
    seqs = ids.job_numbers(tx.prefix, jobs.job_ids)
    done = _complete(tx, queue, settlement, seqs)
    outcomes: dict[int, Settled] = {}
    rest = [place for place, seq in enumerate(seqs) if seq not in done]
    if not rest:
        return outcomes
    there = _of_queue(tx, queue, [seqs[place] for place in rest])
    asked: dict[int, Settlement] = {}
    for place in rest:
        act = settlement.act(place)
        if isinstance(act, RefusedError):
            outcomes[place] = act
        elif seqs[place] not in there:
            outcomes[place] = not_found(f"there is no job {jobs.job_ids[place]!r}")
        else:
            asked[place] = Settlement(jobs.holder(place), act)
    settled = settling.settle(tx, organization, list(asked.values()))
    return outcomes | dict(zip(asked, settled, strict=True))


def renew(tx: Transaction, organization: str, jobs: LeasedJobs, lease_ms: int) -> list[int]:
    """Let the lease last this long from now; return the places of the jobs that are lost."""
    seqs = ids.job_numbers(tx.prefix, jobs.job_ids)
    rows = tx.rows(
        "renew_chunk",
        queue=tx.names.known_queue(tx.names.organization(organization), jobs.queue_name),
        seqs=json.dumps([seq for seq in seqs if seq is not None]),
        worker_id=jobs.worker_id,
        lease_id=jobs.lease_id,
        now=tx.now,
        expiry=tx.now + lease_ms,
    )
    renewed = {seq for (seq,) in rows}
    return [place for place, seq in enumerate(seqs) if seq not in renewed]


def _complete(
    tx: Transaction, queue: int | None, settlement: ChunkSettlement, seqs: Sequence[int | None]
) -> set[int]:
    """Complete jobs in one statement; return the numbers of those whose lease lives."""
    jobs, results, exceptions = settlement
    parts: list[bytes] = []
    cuts: list[int | None] = [None] * len(seqs)
    if results:
        parts = [result or b"" for result in results]
        # Of a value without any bytes SQLite would cut NULL.
        starts = accumulate(map(len, parts), initial=2)
        cuts = [
            None if result is None else start << _LENGTH_BITS | len(result)
            for start, result in zip(starts, results, strict=False)
        ]
    completing = dict(zip(seqs, cuts, strict=True))
    for place in exceptions:
        completing.pop(seqs[place], None)
    completing.pop(None, None)
    rows = tx.rows(
        "complete_chunk",
        queue=queue,
        cuts=json.dumps(completing),
        results=b"".join((b" ", *parts)),
        worker_id=jobs.worker_id,
        lease_id=jobs.lease_id,
        now=tx.now,
    )
    if queue is None or not rows:
        return set()
    done, batches, linked, is_capped = zip(*rows, strict=True)
    tx.move(queue, (done, batches, linked), Status.PROCESSING, Status.COMPLETED)
    tx.deltas.leases_ended(done, jobs.lease_id, queue, is_capped)
    return set(done)


def _of_queue(tx: Transaction, queue: int | None, seqs: Sequence[int | None]) -> set[int]:
    """Return the numbers of those jobs that are of the queue."""
    known = json.dumps([seq for seq in seqs if seq is not None])
    return {seq for (seq,) in tx.rows("find_jobs_of_queue", seqs=known, queue=queue)}
