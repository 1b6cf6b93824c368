"""The times at which a batch's jobs came, began and ended, as a table."""

from __future__ import annotations

import pyarrow as pa

from spooled_pipelines.batch.spill.buffer import SpillBuffer
from spooled_pipelines.rpc.decode import job_status_from
from spooled_pipelines.wire import spooled_v1

_TIMES = ("created_at", "started_at", "completed_at")
_TIME = pa.timestamp("ms", "UTC")
_IDS = [("job_id", pa.string()), ("status", pa.string())]
# Times in milliseconds since the epoch, as they are put aside.
_ROWS = pa.schema([*_IDS, *((name, pa.int64()) for name in _TIMES)])
_SCHEMA = pa.schema([*_IDS, *((name, _TIME) for name in _TIMES), ("seconds", pa.float64())])
_BATCH_ROWS = 5_000


class Timeline:
    """When the jobs of a batch came, began and ended, in any order and in flat memory."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, int | None, int | None, int | None]] = []
        self._spill = SpillBuffer(_ROWS)

    def add(self, job: spooled_v1.Job) -> None:
        """Record a job as the server returned it."""
        created, started, completed = (
            getattr(job, name).ToMilliseconds() if job.HasField(name) else None for name in _TIMES
        )
        status = str(job_status_from(job.status))
        self._rows.append((job.id, status, created, started, completed))
        if len(self._rows) >= _BATCH_ROWS:
            self._flush()

    def reader(self) -> pa.RecordBatchReader:
        """Return job_id, status, the three times and the seconds of the last attempt."""
        self._flush()
        batches = (_with_seconds(rows) for rows in self._spill.batches())
        return pa.RecordBatchReader.from_batches(_SCHEMA, batches)

    def _flush(self) -> None:
        if self._rows:
            columns = [list(column) for column in zip(*self._rows, strict=True)]
            self._spill.write(pa.record_batch(columns, schema=_ROWS))
            self._rows = []


def _with_seconds(rows: pa.RecordBatch) -> pa.RecordBatch:
    import pyarrow.compute as pc

    took = pc.subtract(rows.column("completed_at"), rows.column("started_at"))
    seconds = pc.divide(pc.cast(took, pa.float64()), 1000.0)
    times = [pc.cast(rows.column(name), _TIME) for name in _TIMES]
    return pa.record_batch([*rows.columns[:2], *times, seconds], schema=_SCHEMA)
