"""The way through client, wire and server, against SQLite alone with rows that are ready."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

from benchmarks.measure import rate, show_ratio
from benchmarks.servers import API_KEY, server
from benchmarks.tables import flights
from spooled_pipelines import connect
from spooled_pipelines.batch.prepare import Options, prepare
from spooled_pipelines.server.sqlite.database import open_writer

_ROWS = 100_000
_TRANSACTION_ROWS = 10_000
_INSERT = """
INSERT INTO jobs (seq, organization, queue, status, priority, due_at, batch, max_retries,
    timeout_seconds, created_at, scheduled_at, idempotency_key, tags, payload)
VALUES (NULL, 1, 1, 1, 0, NULL, 1, 3, 300, 1000000000000, NULL, ?, NULL, ?)
"""


def database() -> bool:
    """The server's own schema, indexes and settings, in transactions of 10 000 rows."""
    frame = flights(_ROWS)
    prepared = prepare(frame, "q", Options())
    rows = [
        (bytes.fromhex(key.decode()), piece)
        for chunk in prepared.chunks()
        for key, piece in zip(chunk.keys.to_pylist(), chunk.pieces.to_pylist(), strict=True)
    ]
    prepared.close()
    theirs = rate("sqlite3 executemany", _ROWS, lambda _: _insert(rows))
    seconds: list[float] = []
    for _ in range(3):
        # Each with a store of its own, as empty as the other's.
        with server() as address, connect(address, api_key=API_KEY) as client:
            client.enqueue_batch(frame.head(100), "warm")
            once = rate("", _ROWS, lambda _: client.enqueue_batch(frame, "ours"), runs=1)
            seconds.extend(once.seconds)
    ours = type(theirs)("enqueue_batch", _ROWS, tuple(seconds))
    return show_ratio("the speed of raw SQLite, same columns and indexes", 0.5, ours, theirs)


def _insert(rows: list[tuple[bytes, bytes]]) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as folder,
        closing(open_writer(Path(folder) / "raw.db")) as connection,
    ):
        for start in range(0, len(rows), _TRANSACTION_ROWS):
            connection.execute("BEGIN")
            connection.executemany(_INSERT, rows[start : start + _TRANSACTION_ROWS])
            connection.execute("COMMIT")
