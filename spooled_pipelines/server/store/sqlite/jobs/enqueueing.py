"""Single jobs in, within a transaction."""

from __future__ import annotations

from collections.abc import Sequence

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.jobs.idempotency_keys import digest_of
from spooled_pipelines.server.core.jobs.records import Enqueued, NewJob, Status
from spooled_pipelines.server.core.jobs.turns import ALONE, ROUND, Participant, Rounds, length
from spooled_pipelines.server.store.sqlite.limits.quotas import count_made
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.reads.records import stored_key
from spooled_pipelines.server.store.sqlite.transactions import Transaction, turns
from spooled_pipelines.server.store.sqlite.transactions.bulk_insert import insert_rows

# How long a job is that is in no batch.
_LENGTH = length(1)


def enqueue(tx: Transaction, organization: str, job: NewJob) -> Enqueued:
    """Store a job, or find the one that has its key."""
    owner = tx.names.organization(organization)
    queue = tx.names.queue(owner, job.queue_name)
    due = job.scheduled_at
    if due is not None and due <= tx.now:
        due = None
    status = Status.PENDING if due is None else Status.SCHEDULED
    key = stored_key(job.idempotency_key)
    if key is not None:
        found = tx.connection.execute(SQL["find_job_of_key"], (owner, key)).fetchone()
        if found:
            tx.deltas.add_created(queue, (), 0, None, duplicates=1)
            return Enqueued(ids.job_id(tx.prefix, found[0]), created=False)
    seq = tx.numbers.take(owner, 1)
    # One that is due later gets its round then.
    first = _take_turns(tx, queue, job.priority, 1) if due is None else 0
    tx.send(
        "add_job",
        seq=seq,
        organization=owner,
        queue=queue,
        status=status,
        priority=job.priority,
        due_at=due,
        round=first // ROUND,
        batch=None,
        max_retries=job.max_retries,
        timeout_seconds=job.timeout_seconds,
        created_at=tx.now,
        scheduled_at=job.scheduled_at,
        retry_backoff=job.retry_backoff,
        expires_at=job.expires_at,
        idempotency_key=key,
        tags=job.tags,
        payload=job.payload,
    )
    count_made(tx, organization, 1)
    tx.deltas.add_created(queue, (), 1, (due,))
    tx.deltas.expires_at(job.expires_at)
    return Enqueued(ids.job_id(tx.prefix, seq), created=True)


def can_be_batched(job: NewJob) -> bool:
    """Return whether `enqueue_many` takes it: all it has is a payload and a key that is a hash."""
    key = job.idempotency_key
    said = (job.scheduled_at, job.tags, job.retry_backoff, job.expires_at)
    return (
        not any(each is not None for each in said)
        and key is not None
        and digest_of(key) is not None
    )


def enqueue_many(organization: str, tx: Transaction, jobs: Sequence[NewJob]) -> list[Enqueued]:
    """Enqueue jobs that `can_be_batched` and differ in nothing but payload and key."""
    owner = tx.names.organization(organization)
    queue = tx.names.queue(owner, jobs[0].queue_name)
    keys = [bytes.fromhex(job.idempotency_key or "") for job in jobs]
    first = tx.numbers.take(owner, len(jobs))
    turn = _take_turns(tx, queue, jobs[0].priority, len(jobs))
    created = insert_rows(
        tx.connection,
        {
            "seq": range(first, first + len(jobs)),
            "organization": owner,
            "queue": queue,
            "status": int(Status.PENDING),
            "priority": jobs[0].priority,
            "round": Rounds(turn, _LENGTH, len(jobs)),
            "max_retries": jobs[0].max_retries,
            "timeout_seconds": jobs[0].timeout_seconds,
            "created_at": tx.now,
            "idempotency_key": keys,
            "payload": [job.payload for job in jobs],
        },
    )
    count_made(tx, organization, created)
    tx.deltas.add_created(queue, (), created, None, len(jobs) - created)
    numbers = list(range(first, first + len(jobs)))
    if created < len(jobs):
        unused = {Participant(jobs[0].priority, ALONE): _LENGTH * (len(jobs) - created)}
        turns.give_back(tx, queue, unused)
        # Each is there now, this call's or another's.
        find = tx.connection.execute
        found = [find(SQL["find_job_of_key"], (owner, key)).fetchone()[0] for key in keys]
        return [
            Enqueued(ids.job_id(tx.prefix, seq), created=seq == number)
            for seq, number in zip(found, numbers, strict=True)
        ]
    return [Enqueued(ids.job_id(tx.prefix, number), created=True) for number in numbers]


def _take_turns(tx: Transaction, queue: int, priority: int, jobs: int) -> int:
    one = Participant(priority, ALONE)
    return turns.take(tx, queue, {one: _LENGTH * jobs})[one]
