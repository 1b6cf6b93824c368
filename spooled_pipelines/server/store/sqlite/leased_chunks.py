"""Jobs of one lease settled and renewed together, within a transaction."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.errors import RefusedError, not_found
from spooled_pipelines.server.core.records import (
    ChunkSettlement,
    LeasedJobs,
    Settlement,
    Status,
)
from spooled_pipelines.server.store import Settled
from spooled_pipelines.server.store.sqlite import jobs as job_operations
from spooled_pipelines.server.store.sqlite.transaction import Transaction

_LENGTH_BITS = 24


def settle(tx: Transaction, organization: str, settlement: ChunkSettlement) -> dict[int, Settled]:
    """Complete all but the exceptions at once; the others, and what is refused, one by one."""
    jobs, results, exceptions = settlement
    queue = tx.names.known_queue(tx.names.organization(organization), jobs.queue_name)
    seqs = [ids.job_number(tx.prefix, job_id) for job_id in jobs.job_ids]
    completing = {
        seq: place for place, seq in enumerate(seqs) if seq is not None and place not in exceptions
    }
    done = _complete(tx, queue, jobs, completing, results)
    outcomes: dict[int, Settled] = {}
    for place, seq in enumerate(seqs):
        if seq in done:
            continue
        act = settlement.act(place)
        if isinstance(act, RefusedError):
            outcomes[place] = act
        elif not _is_of_queue(tx, seq, queue):
            outcomes[place] = not_found(f"there is no job {jobs.job_ids[place]!r}")
        else:
            one = [Settlement(jobs.holder(place), act)]
            (outcomes[place],) = job_operations.settle(tx, organization, one)
    return outcomes


def renew(tx: Transaction, organization: str, jobs: LeasedJobs, lease_ms: int) -> list[int]:
    """Let the lease last this long from now; return the places of the jobs that are lost."""
    seqs = [ids.job_number(tx.prefix, job_id) for job_id in jobs.job_ids]
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
    tx: Transaction,
    queue: int | None,
    jobs: LeasedJobs,
    places: dict[int, int],
    results: Sequence[bytes | None],
) -> set[int]:
    """Complete jobs in one statement; return the numbers of those whose lease lives."""
    cuts: dict[int, int | None] = dict.fromkeys(places)
    # Of a value without any bytes SQLite would cut NULL.
    parts, start = [b" "], 2
    for seq, place in places.items() if results else ():
        result = results[place]
        if result is not None:
            cuts[seq] = start << _LENGTH_BITS | len(result)
            parts.append(result)
            start += len(result)
    rows = tx.rows(
        "complete_chunk",
        queue=queue,
        cuts=json.dumps(cuts),
        results=b"".join(parts),
        worker_id=jobs.worker_id,
        lease_id=jobs.lease_id,
        now=tx.now,
    )
    if queue is None or not rows:
        return set()
    moved = Counter(tx.batches_of(seq, batch, linked) for seq, batch, linked, _ in rows)
    for batches, count in moved.items():
        tx.deltas.move(queue, batches, Status.PROCESSING, Status.COMPLETED, count=count)
    for seq, _, _, is_capped in rows:
        tx.deltas.lease_ended(seq, jobs.lease_id, queue, is_capped)
    return {row[0] for row in rows}


def _is_of_queue(tx: Transaction, seq: int | None, queue: int | None) -> bool:
    return bool(tx.rows("find_queue_of_job", seq=seq, queue=queue))
