"""Cancelling and retrying, within a transaction: so many jobs of a batch or queue at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from spooled_pipelines.server.core import ids, queue_limits
from spooled_pipelines.server.core.errors import RefusedError, conflict, not_found
from spooled_pipelines.server.core.queue_limits import QueueLimits
from spooled_pipelines.server.core.records import Counts, Revision, Status
from spooled_pipelines.server.store.sqlite import jobs
from spooled_pipelines.server.store.sqlite.batches import find
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.transaction import Transaction

# How many jobs one step looks at, so that others are not held up for long.
STEP_JOBS = 2_000


# Number, queue, status, when due, batch, whether it is linked.
_Place = tuple[int, int, int, int | None, int | None, int]


class Step(NamedTuple):
    """How many jobs were changed, and the place to go on from; None at the end."""

    changed: int
    after: int | None


def generations(
    tx: Transaction, organization: str, batch_id: str, highest: int | None
) -> list[int]:
    """The numbers of a batch's generations up to this one."""
    owner = tx.names.organization(organization)
    rows = tx.connection.execute(SQL["generations"], (owner, batch_id)).fetchall()
    if not rows:
        raise not_found(f"there is no batch {batch_id!r}")
    return [number for number, generation in rows if highest is None or generation <= highest]


def newest(tx: Transaction, organization: str, batch_id: str) -> int:
    """The number of a batch's newest generation."""
    return find(tx, tx.names.organization(organization), batch_id)[0]


def counts(tx: Transaction, batches: list[int]) -> Counts:
    """Their counters, added up."""
    read, statement = tx.connection.execute, SQL["generation_counts"]
    # One that was forgotten meanwhile counts nothing.
    rows = [row for batch in batches if (row := read(statement, (batch,)).fetchone())]
    return Counts(*(sum(row[place] for row in rows) for place in range(len(Counts._fields))))


def cancel(tx: Transaction, batch: int, after: int) -> Step:
    """Cancel which of the next jobs have not started."""
    changed = 0
    rows = tx.connection.execute(SQL["places_of_batch"], (batch, after, STEP_JOBS)).fetchall()
    for seq, queue, status, due_at, own_batch, linked in rows:
        if status not in (Status.PENDING, Status.SCHEDULED):
            continue
        tx.connection.execute(SQL["cancel_job"], (tx.now, seq))
        waited = status == Status.PENDING and due_at is not None
        batches = tx.batches_of(seq, own_batch, linked)
        tx.move(queue, batches, status, Status.CANCELLED, was_waiting=waited)
        changed += 1
    return Step(changed, _following(rows))


def retry(tx: Transaction, batch: int, error_contains: str, cancelled: bool, after: int) -> Step:
    """Put those of the next jobs back into the queue that are dead of such an error.

    And, where that is asked for, those that were cancelled.
    """
    rows = tx.connection.execute(SQL["places_of_batch"], (batch, after, STEP_JOBS)).fetchall()
    step = _revive(tx, rows, error_contains)
    if not cancelled:
        return step
    return Step(step.changed + _restore(tx, rows), step.after)


def purge(tx: Transaction, queue: int, highest: int, _: int) -> Step:
    """Cancel some jobs that are pending, of those with a number up to `highest`."""
    values = (queue, highest, STEP_JOBS)
    ready = tx.connection.execute(SQL["ready_of_queue"], values).fetchall()
    retrying = tx.connection.execute(SQL["retrying_of_queue"], values).fetchall()
    for rows, waited in ((ready, False), (retrying, True)):
        for seq, batch, linked in rows:
            tx.connection.execute(SQL["cancel_job"], (tx.now, seq))
            batches = tx.batches_of(seq, batch, linked)
            tx.move(queue, batches, Status.PENDING, Status.CANCELLED, was_waiting=waited)
    # What was cancelled is not found again, so there is no place to go on from.
    is_last = max(len(ready), len(retrying)) < STEP_JOBS
    return Step(len(ready) + len(retrying), None if is_last else 0)


def redrive(tx: Transaction, queue: int, error_contains: str, after: int) -> Step:
    """Put those of the next dead letters of a queue back that died of such an error."""
    rows = tx.connection.execute(SQL["dead_of_queue"], (queue, after, STEP_JOBS)).fetchall()
    return _revive(tx, rows, error_contains)


def revise(
    tx: Transaction, organization: str, revisions: Sequence[Revision]
) -> list[RefusedError | None]:
    """For each dead letter, in turn, why it stays as it is."""
    owner = tx.names.organization(organization)
    return [_revise(tx, owner, revision) for revision in revisions]


def _revise(tx: Transaction, owner: int, revision: Revision) -> RefusedError | None:
    number = ids.job_number(tx.prefix, revision.job_id)
    row = tx.connection.execute(SQL["dead_letter"], (number, owner)).fetchone()
    if row is None:
        return not_found(f"there is no job {revision.job_id!r}")
    seq, queue, status, own_batch, linked, error = row
    if status != Status.DEADLETTER:
        return conflict(f"Job is {Status.NAMES[status]}, and no dead letter")
    batches = tx.batches_of(seq, own_batch, linked)
    if batches and not any(_is_remembered(tx, batch) for batch in batches):
        # It goes with its batch, and is as good as gone.
        return not_found(f"there is no job {revision.job_id!r}")
    if revision.discard:
        tx.connection.execute(SQL["cancel_job"], (tx.now, seq))
        tx.move(queue, batches, Status.DEADLETTER, Status.CANCELLED)
    else:
        if revision.payload is not None:
            tx.connection.execute(SQL["change_payload"], (revision.payload, seq))
        tx.connection.execute(SQL["revive_job"], (seq,))
        tx.move(queue, batches, Status.DEADLETTER, Status.PENDING)
    jobs.count_errors(tx, batches, error or "", -1)
    return None


def set_paused(tx: Transaction, organization: str, queue_name: str, paused: bool) -> None:
    """Let nobody claim of a queue any more, or again."""
    queue = queue_number(tx, organization, queue_name)
    tx.connection.execute(SQL["set_paused"], (paused, queue))
    tx.changes.controlled.add(organization)
    if not paused:
        tx.changes.ready_queues.add((organization, queue_name))


def set_limits(
    tx: Transaction, organization: str, queue_name: str, limits: QueueLimits
) -> QueueLimits:
    """Cap what is claimed of a queue from now on; the limits as they are kept."""
    queue = queue_number(tx, organization, queue_name)
    _, _, *before = tx.connection.execute(SQL["terms"], (queue,)).fetchone()
    throttle = queue_limits.throttle(limits, queue_limits.stored(before), tx.now)
    if throttle is None:
        tx.connection.execute(SQL["lift_limits"], (queue,))
    else:
        tx.connection.execute(SQL["put_limits"], (queue, *throttle))
    tx.changes.controlled.add(organization)
    tx.changes.ready_queues.add((organization, queue_name))
    return QueueLimits() if throttle is None else throttle.limits


def queue_number(tx: Transaction, organization: str, queue_name: str) -> int:
    """The queue's number; it is made if it is not there."""
    return tx.names.queue(tx.names.organization(organization), queue_name)


def last_job(tx: Transaction) -> int:
    """The number of the youngest job."""
    return tx.sequence.following - 1


def _revive(tx: Transaction, rows: list[_Place], error_contains: str) -> Step:
    changed = 0
    for seq, queue, status, _, own_batch, linked in rows:
        if status != Status.DEADLETTER:
            continue
        error = tx.connection.execute(SQL["last_error"], (seq,)).fetchone()[0] or ""
        if error_contains not in error:
            continue
        batches = tx.batches_of(seq, own_batch, linked)
        if batches and not any(_is_remembered(tx, batch) for batch in batches):
            # It goes with its batch, and is as good as gone.
            continue
        tx.connection.execute(SQL["revive_job"], (seq,))
        tx.move(queue, batches, Status.DEADLETTER, Status.PENDING)
        jobs.count_errors(tx, batches, error, -1)
        changed += 1
    return Step(changed, _following(rows))


def _restore(tx: Transaction, rows: list[_Place]) -> int:
    """Undo the cancelling of these jobs; returns how many had been."""
    restored = 0
    for seq, queue, status, _, own_batch, linked in rows:
        batches = tx.batches_of(seq, own_batch, linked)
        if status != Status.CANCELLED or not any(_is_remembered(tx, batch) for batch in batches):
            continue
        (due_at,) = tx.connection.execute(SQL["restore_job"], (tx.now, seq)).fetchone()
        now = Status.PENDING if due_at is None else Status.SCHEDULED
        tx.move(queue, batches, Status.CANCELLED, now)
        if due_at is not None:
            tx.changes.due_at(due_at)
        restored += 1
    return restored


def _is_remembered(tx: Transaction, batch: int) -> bool:
    return tx.connection.execute(SQL["is_remembered"], (batch,)).fetchone() is not None


def _following(rows: list[_Place]) -> int | None:
    return rows[-1][0] if len(rows) == STEP_JOBS else None
