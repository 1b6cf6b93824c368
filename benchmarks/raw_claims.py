"""What a store's own SQL does alone: claim groups of jobs and complete them, each committed.

On the tables and indexes of the server and on rows that it stored, without server, wire and worker.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

_GROUP = 200
_LEASE_MS = 30_000
_RESULT = bytes(30)
_SQLITE_CLAIM = """
UPDATE jobs SET status = 3, worker_id = 'w', lease_id = :lease, started_at = :now,
    lease_expires_at = :expiry
WHERE seq IN (
    SELECT seq FROM jobs INDEXED BY jobs_ready
    WHERE queue = (SELECT id FROM queues WHERE name = :queue) AND status = 1 AND due_at IS NULL
    ORDER BY priority DESC, round, seq LIMIT :limit
)
RETURNING seq, payload
"""
_SQLITE_COMPLETE = """
UPDATE jobs SET status = 4, completed_at = ?, lease_expires_at = NULL, result = ?
WHERE seq = ? AND lease_id = ?
"""
_POSTGRES_CLAIM = b"""
WITH first AS MATERIALIZED (
    SELECT seq FROM jobs
    WHERE queue = (SELECT id FROM queues WHERE name = %(queue)s) AND phase = 1
    ORDER BY priority DESC, round, seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE jobs SET status = 3, worker_id = 'w', lease_id = %(lease)s, started_at = %(now)s,
    lease_expires_at = %(expiry)s
FROM first WHERE jobs.seq = first.seq RETURNING jobs.seq, jobs.payload
"""
_POSTGRES_COMPLETE = b"""
UPDATE jobs SET status = 4, completed_at = %(now)s, lease_expires_at = NULL, result = n.result
FROM unnest(%(seqs)s::int8[], %(results)s::bytea[]) AS n (seq, result)
WHERE jobs.seq = n.seq AND jobs.lease_id = %(lease)s
"""


def on_sqlite(store: Path, queue_name: str, rows: int) -> float:
    """Return the seconds; no server may have the file open."""
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        # As durable as the server's.
        connection.execute("PRAGMA synchronous = FULL")

        def claim(values: dict[str, Any]) -> list[int]:
            found = connection.execute(_SQLITE_CLAIM, values).fetchall()
            connection.execute("COMMIT")
            connection.execute("BEGIN IMMEDIATE")
            return [seq for seq, _ in found]

        def complete(values: dict[str, Any], seqs: list[int]) -> None:
            given = ((values["now"], _RESULT, seq, values["lease"]) for seq in seqs)
            connection.executemany(_SQLITE_COMPLETE, given)
            connection.execute("COMMIT")
            connection.execute("BEGIN IMMEDIATE")

        connection.execute("BEGIN IMMEDIATE")
        return _timed(queue_name, rows, claim, complete)


def on_postgres(url: str, queue_name: str, rows: int) -> float:
    """Return the seconds; the server may be there, with nothing to do."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET search_path = spooled")

        def claim(values: dict[str, Any]) -> list[int]:
            found = connection.cursor(binary=True).execute(_POSTGRES_CLAIM, values).fetchall()
            return [seq for seq, _ in found]

        def complete(values: dict[str, Any], seqs: list[int]) -> None:
            given = {**values, "seqs": seqs, "results": [_RESULT] * len(seqs)}
            connection.execute(_POSTGRES_COMPLETE, given)

        return _timed(queue_name, rows, claim, complete)


def _timed(
    queue_name: str,
    rows: int,
    claim: Callable[[dict[str, Any]], list[int]],
    complete: Callable[[dict[str, Any], list[int]], None],
) -> float:
    done = 0
    began = time.perf_counter()
    while True:
        now = time.time_ns() // 1_000_000
        lease = {"lease": f"{done:032x}", "now": now, "expiry": now + _LEASE_MS}
        seqs = claim({**lease, "queue": queue_name, "limit": _GROUP})
        if not seqs:
            break
        complete(lease, seqs)
        done += len(seqs)
    seconds = time.perf_counter() - began
    assert done == rows, f"{done} of {rows} jobs were claimed"
    return seconds
