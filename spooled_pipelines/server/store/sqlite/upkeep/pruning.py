"""Letting go of what settled long ago, within a transaction: so many jobs at a time."""

from __future__ import annotations

from spooled_pipelines.server.core.upkeep.retention import STEP_JOBS, Pruned
from spooled_pipelines.server.store.sqlite.queries import SQL
from spooled_pipelines.server.store.sqlite.transactions import Transaction

# Batches without jobs cost a commit something too.
_STEP_BATCHES = 100
# What else a batch has, and itself; "note_last_batch" before it is gone.
_REST = (
    "forget_chunks",
    "forget_uploads",
    "forget_parts",
    "forget_errors",
    "forget_turns",
    "forget_schemas",
    "note_last_batch",
    "forget_batch",
)


def strip(tx: Transaction, before: int) -> Pruned:
    """Take payload, result and tags from jobs."""
    count = tx.connection.execute(SQL["strip_jobs"], (before, STEP_JOBS)).rowcount
    return Pruned(count, count == STEP_JOBS)


def forget(tx: Transaction, before: int) -> Pruned:
    """Remove jobs that are in no batch, and their keys."""
    return _forget_alone(tx, "find_old_jobs", before)


def forget_dead(tx: Transaction, before: int) -> Pruned:
    """Remove dead letters that are in no batch."""
    return _forget_alone(tx, "find_old_dead_letters", before)


def forget_batches(tx: Transaction, before: int, before_dead: int | None) -> Pruned:
    """Remove batches, the next only when the one before is gone; their jobs are counted."""
    room = STEP_JOBS
    for _ in range(_STEP_BATCHES):
        batch = _being_forgotten(tx)
        if batch is None:
            batch = _next_batch(tx, before, before_dead)
        if batch is None:
            return Pruned(STEP_JOBS - room, more=False)
        room -= forget_some(tx, batch, room)
        if room <= 0:
            break
    return Pruned(STEP_JOBS - room, more=True)


def forget_some(tx: Transaction, batch: int, limit: int = STEP_JOBS) -> int:
    """Let go of jobs of a forgotten batch, and of itself after the last; returns how many."""
    own = tx.connection.execute(SQL["list_own_jobs"], (batch, limit)).fetchall()
    for row in own:
        if not _hand_over(tx, batch, row[0]):
            _remove(tx, *row)
    linked = tx.connection.execute(SQL["list_links"], (batch, limit)).fetchall()
    for (seq,) in linked:
        tx.connection.execute(SQL["remove_link"], (batch, seq))
        tx.send("unmark_linked", seq=seq)
    if len(own) < limit and len(linked) < limit:
        for statement in _REST:
            tx.connection.execute(SQL[statement], (batch,))
        tx.names.forget_batch(batch)
    return len(own) + len(linked)


def make_room_for(tx: Transaction, organization: int, batch_id: str) -> bool:
    """Go on removing a forgotten batch whose name is wanted again; True where there is more."""
    row = tx.connection.execute(SQL["find_forgotten"], (organization, batch_id)).fetchone()
    if row is not None:
        forget_some(tx, row[0])
    return row is not None


def _forget_alone(tx: Transaction, statement: str, before: int) -> Pruned:
    rows = tx.connection.execute(SQL[statement], (before, STEP_JOBS)).fetchall()
    for row in rows:
        _remove(tx, *row)
    return Pruned(len(rows), len(rows) == STEP_JOBS)


def _remove(tx: Transaction, seq: int, queue: int, status: int, is_expired: int) -> None:
    tx.connection.execute(SQL["forget_attempts"], (seq,))
    tx.connection.execute(SQL["remove_jobs"], (seq,))
    tx.deltas.add(queue, (), status, -1, expired=bool(is_expired))


def _hand_over(tx: Transaction, batch: int, seq: int) -> bool:
    """Make the job another batch's own that it is in as well; False where there is none."""
    row = tx.connection.execute(SQL["list_batches_of_job"], (seq,)).fetchone()
    if row is None:
        return False
    tx.connection.execute(SQL["remove_link"], (row[0], seq))
    tx.connection.execute(SQL["hand_over"], (row[0], seq))
    tx.connection.execute(SQL["bring_schema"], (batch, seq))
    tx.send("unmark_linked", seq=seq)
    return True


def _being_forgotten(tx: Transaction) -> int | None:
    row = tx.connection.execute(SQL["find_being_forgotten"]).fetchone()
    return None if row is None else row[0]


def _next_batch(tx: Transaction, before: int, before_dead: int | None) -> int | None:
    """Hide another batch that is too old from everyone."""
    row = tx.connection.execute(SQL["find_old_batch"], (0, before)).fetchone()
    if row is None and before_dead is not None:
        moment = min(before, before_dead)
        row = tx.connection.execute(SQL["find_old_batch"], (1, moment)).fetchone()
    if row is None:
        return None
    tx.connection.execute(SQL["begin_forgetting"], (row[0],))
    # Those who watch it are told that it is not there.
    tx.changes.batches.add(tx.names.batch_topic(row[0]))
    return int(row[0])
