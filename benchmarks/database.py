"""The way through client, wire and server, against SQLite alone with rows that are ready."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.measure import Side, in_turns, show_ratio
from benchmarks.servers import API_KEY, server
from benchmarks.tables import flights
from spooled_pipelines import connect
from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.batch.staging.prepare import prepare
from spooled_pipelines.server.store.sqlite.connections.database import open_writer

_ROWS = 100_000
_TRANSACTION_ROWS = 10_000
_RUNS = 5
_INSERT = """
INSERT INTO jobs (seq, organization, queue, status, priority, due_at, batch, max_retries,
    timeout_seconds, created_at, scheduled_at, idempotency_key, tags, payload)
VALUES (NULL, 1, 1, 1, 0, NULL, 1, 3, 300, 1000000000000, NULL, ?, NULL, ?)
"""


def database() -> bool:
    """Insert with the server's own schema, indexes and settings, 10 000 rows a transaction."""
    frame = flights(_ROWS)
    prepared = prepare(frame, "q", RowOptions())
    rows = [
        (bytes.fromhex(key.decode()), payload)
        for chunk in prepared.chunks()
        for key, payload in zip(chunk.keys.to_pylist(), chunk.payloads(), strict=True)
    ]
    prepared.close()
    theirs, ours = in_turns(
        Side("sqlite3 executemany", _ROWS, lambda _: _insert(rows)),
        Side("enqueue_batch", _ROWS, lambda _: _enqueue(frame)),
        runs=_RUNS,
    )
    return show_ratio("the speed of raw SQLite, same columns and indexes", 0.5, ours, theirs)


def _enqueue(frame: Any) -> float:
    """Seconds, with a store as empty as the other side's."""
    with server() as address, connect(address, api_key=API_KEY) as client:
        client.enqueue_batch(frame.head(100), "warm")
        began = time.perf_counter()
        client.enqueue_batch(frame, "ours")
        return time.perf_counter() - began


def _insert(rows: list[tuple[bytes, bytes]]) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as folder,
        closing(open_writer(Path(folder) / "raw.db")) as connection,
    ):
        for start in range(0, len(rows), _TRANSACTION_ROWS):
            connection.execute("BEGIN")
            connection.executemany(_INSERT, rows[start : start + _TRANSACTION_ROWS])
            connection.execute("COMMIT")
