"""Letting go of what settled long ago, within a transaction: so many jobs at a time."""

from __future__ import annotations

from spooled_pipelines.server.retention import STEP_JOBS
from spooled_pipelines.server.sqlite.queries import SQL
from spooled_pipelines.server.sqlite.transaction import Transaction


def strip(tx: Transaction, before: int) -> bool:
    """Take payload, result and tags from jobs; True where there may be more of them."""
    return tx.connection.execute(SQL["strip_jobs"], (before, STEP_JOBS)).rowcount == STEP_JOBS


def forget(tx: Transaction, before: int) -> bool:
    """Remove jobs that are in no batch, and their keys; True where there may be more of them."""
    rows = tx.connection.execute(SQL["old_jobs"], (before, STEP_JOBS)).fetchall()
    seqs = [(row[0],) for row in rows]
    tx.connection.executemany(SQL["forget_attempts"], seqs)
    tx.connection.executemany(SQL["forget_job"], seqs)
    for _, queue, status in rows:
        tx.add(queue, (), status, waiting=False, count=-1)
    return len(rows) == STEP_JOBS
