"""Operations on jobs, within a transaction: enqueue, claim, settle, release, take back."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.batch_rules import UPLOAD_GONE_MS
from spooled_pipelines.server.core.counter_deltas import LockedJob
from spooled_pipelines.server.core.errors import RefusedError, not_found
from spooled_pipelines.server.core.idempotency_keys import digest_of, digests_of
from spooled_pipelines.server.core.job_rules import (
    Expire,
    LeaseExpiry,
    Renewal,
    ends_of_death,
    fail_outcome,
    why_not_held,
)
from spooled_pipelines.server.core.queue_limits import QueueLimiter
from spooled_pipelines.server.core.records import Enqueued, JobRecord, NewJob, Status
from spooled_pipelines.server.core.settlements import (
    Act,
    Completion,
    Death,
    FailOutcome,
    Failure,
    LeaseHolder,
    Settlement,
)
from spooled_pipelines.server.core.turns import ALONE, ROUND, Participant, Rounds, length
from spooled_pipelines.server.store.limits import SWEEP_JOBS
from spooled_pipelines.server.store.requests import ClaimRequest, DeadWorker
from spooled_pipelines.server.store.rows import job_of_row, jobs_of_columns
from spooled_pipelines.server.store.sqlite import turns
from spooled_pipelines.server.store.sqlite.bulk_insert import insert_rows
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.quotas import count_made
from spooled_pipelines.server.store.sqlite.throttling import slow_down
from spooled_pipelines.server.store.sqlite.transaction import Transaction

# Priority, round, number, batch, whether it is linked, then the record.
_Row = tuple[Any, ...]
# How long a job is that is in no batch.
_LENGTH = length(1)


def stored_key(key: str | None) -> str | bytes | None:
    """Return how an idempotency key is kept: 32 hex digits as 16 bytes."""
    return None if key is None else digest_of(key) or key


def stored_keys(keys: Sequence[str]) -> Sequence[str | bytes]:
    """Return `stored_key` of each, at once where all are hashes."""
    return digests_of(keys) or [digest_of(key) or key for key in keys]


def job_record(prefix: str, row: Sequence[Any], queue_name: str | None = None) -> JobRecord:
    """Return the job of a row, see `job_of_row`."""
    return job_of_row(prefix, row, _shown_key, queue_name)


def _shown_key(stored: str | bytes | None) -> str | None:
    return stored.hex() if isinstance(stored, bytes) else stored


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
    seq = tx.numbers.take(1)
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
    first = tx.numbers.take(len(jobs))
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


def claim(tx: Transaction, organization: str, request: ClaimRequest) -> list[JobRecord]:
    """Lease the first claimable jobs."""
    # The timer may be a moment behind; a claim is not.
    release_due(tx)
    # Asking makes no queue: its name may be a mistake, and anybody may ask for many.
    queue = tx.names.known_queue(tx.names.organization(organization), request.queue_name)
    if queue is None:
        return []
    is_paused, in_flight, *limits = tx.connection.execute(SQL["read_terms"], (queue,)).fetchone()
    if is_paused:
        return []
    limiter = QueueLimiter.from_row(limits)
    if limiter is None:
        rows = _claim(tx, queue, request, request.limit)
    else:
        rows = _claim_within_limits(tx, queue, limiter.filled(tx.now), in_flight, request)
    if not rows:
        return []
    # By priority, highest first, then round and number.
    rows.sort(key=itemgetter(1, 2))
    rows.sort(key=itemgetter(0), reverse=True)
    turns.note_claimed(tx, queue, (row[:2] for row in rows))
    _, _, seqs, batches, linked, *columns = zip(*rows, strict=True)
    tx.move(queue, (seqs, batches, linked), Status.PENDING, Status.PROCESSING)
    tx.deltas.due_at(tx.now + request.lease_ms)
    return jobs_of_columns(tx.prefix, columns, _shown_key, request.queue_name)


def settle(
    tx: Transaction, organization: str, settlements: Sequence[Settlement]
) -> list[FailOutcome | RefusedError | None]:
    """Settle each in turn; return a failure's outcome, or why it was refused."""
    settled = [_settle_one(tx, organization, holder, act) for holder, act in settlements]
    if tx.deltas.throttled:
        slow_down(tx)
    return settled


def _settle_one(
    tx: Transaction, organization: str, holder: LeaseHolder, act: Act
) -> FailOutcome | RefusedError | None:
    """Settle a job; return a failure's outcome, or why it was refused: then nothing has changed."""
    if isinstance(act, Completion) and _is_completed(tx, organization, holder, act.result):
        return None
    # Either it names no lease, or here it is said what is wrong.
    job = _held(tx, organization, holder)
    if isinstance(job, RefusedError):
        return job
    tx.deltas.apply(job, act, tx.now)
    tx.write(job)
    is_failed = isinstance(act, Failure | Death) or job.state.status == Status.DEADLETTER
    return fail_outcome(job.state, tx.now) if is_failed else None


def renew(tx: Transaction, organization: str, holder: LeaseHolder, lease_ms: int) -> int:
    """Let a lease last this long from now; returns when it ends."""
    job = _held(tx, organization, holder)
    if isinstance(job, RefusedError):
        raise job
    tx.deltas.apply(job, Renewal(lease_ms), tx.now)
    tx.write(job)
    return tx.now + lease_ms


def release_due(tx: Transaction) -> bool:
    """Make claimable what is due; True where there is more."""
    rows = tx.connection.execute(SQL["find_due"], (tx.now, SWEEP_JOBS)).fetchall()
    for seq, queue, _, _, _, status, batch, linked, limit_key in rows:
        batches = tx.batches_of(seq, batch, linked)
        waited, is_held = status == Status.PENDING, limit_key is not None
        tx.deltas.move(queue, batches, status, Status.PENDING, was_waiting=waited, waiting=is_held)
        if is_held:
            tx.deltas.limit_keys.add((queue, limit_key))
    rounds = turns.rounds_again(tx, (row[:5] for row in rows))
    released = [(number, seq) for seq, number in rounds.items()]
    tx.connection.executemany(SQL["release_job"], released)
    return len(rows) == SWEEP_JOBS


def cancel_too_late(tx: Transaction) -> bool:
    """Cancel jobs that did not start in time; True where there is more."""
    jobs = tx.locked("lock_too_late", now=tx.now, limit=SWEEP_JOBS)
    for job in jobs:
        tx.deltas.apply(job, Expire(), tx.now)
        tx.write(job)
    return len(jobs) == SWEEP_JOBS


def requeue_expired(tx: Transaction) -> bool:
    """Take jobs back whose lease ran out; True where there is more."""
    jobs = tx.locked("lock_expired", now=tx.now, limit=SWEEP_JOBS)
    for job in jobs:
        tx.deltas.apply(job, LeaseExpiry(), tx.now)
        tx.deltas.expired[job.queue] = tx.now
        tx.write(job)
    return len(jobs) == SWEEP_JOBS


def end_worker(tx: Transaction, organization: str, worker: DeadWorker) -> int:
    """End every lease of a worker whose process died."""
    owner = tx.names.organization(organization)
    held = [
        job
        for job in tx.locked("lock_held", organization=owner, worker_id=worker.worker_id)
        if worker.queues is None or tx.names.queue_topic(job.queue)[1] in worker.queues
    ]
    running = [worker.ran(ids.job_id(tx.prefix, job.seq)) for job in held]
    ends = ends_of_death(running, worker.error, worker.exit_code)
    for job, end in zip(held, ends, strict=True):
        tx.deltas.apply(job, end, tx.now)
        tx.write(job)
    return len(held)


def next_moment(tx: Transaction) -> tuple[int | None, bool]:
    """Return when the next job is due or the next lease ends, and whether there is more to do."""
    ((*moments, more),) = tx.rows("read_next_moment", gone=UPLOAD_GONE_MS)
    return min((moment for moment in moments if moment is not None), default=None), bool(more)


def _claim(tx: Transaction, queue: int, request: ClaimRequest, limit: int) -> list[_Row]:
    """Lease the first jobs, at least one where there are any, that fit into one answer."""
    return tx.rows(
        "claim_jobs",
        queue=queue,
        limit=limit,
        budget=request.max_bytes,
        worker=request.worker_id,
        lease=request.lease_id,
        now=tx.now,
        expiry=tx.now + request.lease_ms,
    )


def _claim_within_limits(
    tx: Transaction, queue: int, limiter: QueueLimiter, in_flight: int, request: ClaimRequest
) -> list[_Row]:
    """Lease jobs of a limited queue, counted as claimed."""
    limit = request.limit
    allowed = min(limit, limiter.room(in_flight))
    rows = _claim(tx, queue, request, allowed) if allowed else []
    limiter = limiter.spent(len(rows))
    if limiter.is_none:
        tx.connection.execute(SQL["remove_limits"], (queue,))
    elif rows:
        tx.connection.execute(SQL["spend_limits"], (limiter.level, limiter.filled_at, queue))
    moment = limiter.next_at(in_flight + len(rows))
    if moment is not None and len(rows) == allowed < limit:
        tx.changes.held_until[tx.names.queue_topic(queue)] = moment
    return rows


def _held(tx: Transaction, organization: str, holder: LeaseHolder) -> LockedJob | RefusedError:
    """Return the job, if it is the holder's to settle; else why not."""
    seq = ids.job_number(tx.prefix, holder.job_id)
    owner = tx.names.organization(organization)
    job = tx.locked_job(seq, owner)
    if job is None:
        return not_found(f"there is no job {holder.job_id!r}")
    return why_not_held(job.state, holder, tx.now) or job


def _is_completed(
    tx: Transaction, organization: str, holder: LeaseHolder, result: bytes | None
) -> bool:
    """Complete the job in one statement; False where it is not held by this lease."""
    seq, owner = ids.job_number(tx.prefix, holder.job_id), tx.names.organization(organization)
    values = (tx.now, result, seq, owner, holder.lease_id, holder.worker_id)
    row = tx.connection.execute(SQL["complete_job"], values).fetchone()
    if row is None:
        return False
    number, queue, batch, linked, is_capped = row
    batches = tx.batches_of(number, batch, linked)
    tx.deltas.move(queue, batches, Status.PROCESSING, Status.COMPLETED)
    tx.deltas.lease_ended(number, holder.lease_id, queue, is_capped)
    return True
