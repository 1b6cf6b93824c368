"""The results of a million settled jobs as a table, against a loop of GetJob."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from benchmarks.measure import Side, in_turns, show_ratio
from benchmarks.servers import API_KEY, server_over
from benchmarks.tables import flights
from spooled_pipelines import connect

_ROWS = 1_000_000
_PART = 250_000
_SAMPLE = 2_000
_RUNS = 2
# What a worker that gives back its payload leaves, for every job at once.
_SETTLE = """
UPDATE jobs SET status = 4, result = payload, completed_at = created_at, worker_id = 'w';
UPDATE queues SET completed = pending, pending = 0;
UPDATE batches SET completed = pending, pending = 0;
"""


def results() -> bool:
    """Of one batch, read by a client that knows only its id; six fields in each result."""
    with tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as folder:
        store = Path(folder) / "jobs.db"
        with server_over(store) as address, connect(address, api_key=API_KEY) as client:
            frame = flights(_PART)
            for part in range(_ROWS // _PART):
                frame["flight"] += _PART * bool(part)
                batch = client.enqueue_batch(frame, "results", key="flight", name="all")
        with closing(sqlite3.connect(store, isolation_level=None)) as file:
            file.executescript(f"BEGIN; {_SETTLE} COMMIT;")
        with server_over(store) as address, connect(address, api_key=API_KEY) as client:
            found = client.batch(batch.id)
            ledger = batch.ledger
            assert ledger is not None
            ids = ledger["job_id"].slice(0, _SAMPLE).to_pylist()

            def read_all(_: int) -> None:
                table = found.results()
                if (table.num_rows, table.num_columns) != (_ROWS, 10):
                    raise RuntimeError(f"not all results: {table.shape}")

            ours, theirs = in_turns(
                Side("Batch.results()", _ROWS, read_all),
                Side("a loop of get_job()", _SAMPLE, lambda _: [client.get_job(i) for i in ids]),
                runs=_RUNS,
            )
    return show_ratio("results of settled jobs to an Arrow table", 30, ours, theirs)
