"""Results of jobs, put aside as they come, so that they can be read in any order."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.spill.buffer import SpillBuffer
from spooled_pipelines.batch.spill.database import insert, spill_database
from spooled_pipelines.batch.values.exact_arrays import bool_as_number
from spooled_pipelines.rpc.decode import job_status_from
from spooled_pipelines.rpc.struct import from_struct
from spooled_pipelines.wire import spooled_v1

# `settled_at` in milliseconds since the epoch; `result` and `payload` as JSON text.
SCHEMA = pa.schema(
    [
        ("job_id", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("settled_at", pa.int64()),
        ("result", pa.string()),
        ("payload", pa.string()),
    ]
)
_BATCH_ROWS, _BATCH_CHARACTERS = 5_000, 16 << 20
# How far the server's order and the table's may differ without an index.
_BUFFER_ROWS = 100_000
# A field whose values have no type in common.
MIXED = None


class ResultStore:
    """Jobs in the order in which the server listed them.

    Attributes:
        fields: the types of the results' fields, by name.
        payload_fields: those of the payloads, where they are kept.
    """

    def __init__(self, *, keeps_payloads: bool = False) -> None:
        self.fields: dict[str, pa.DataType | None] = {}
        self.payload_fields: dict[str, pa.DataType | None] = {}
        self._keeps_payloads = keeps_payloads
        self._spill = SpillBuffer(SCHEMA)
        self._rows: list[tuple[str, str, str | None, int | None, str | None, str | None]] = []
        self._results: list[dict[str, Any]] = []
        self._payloads: list[dict[str, Any]] = []
        self._characters = 0

    def add(self, job: spooled_v1.Job) -> None:
        """Record a job as the server returned it."""
        result = payload = None
        if job.HasField("result"):
            result = self._keep(from_struct(job.result), self._results)
        if self._keeps_payloads and job.HasField("payload"):
            payload = self._keep(from_struct(job.payload), self._payloads)
        at = job.completed_at.ToMilliseconds() if job.HasField("completed_at") else None
        status = str(job_status_from(job.status))
        self._rows.append((job.id, status, job.last_error or None, at, result, payload))
        if len(self._rows) >= _BATCH_ROWS or self._characters >= _BATCH_CHARACTERS:
            self._flush()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Return all of them, once adding is finished."""
        return self._spill.batches()

    def finish(self) -> None:
        """Finish adding: the types are known from now on."""
        self._flush()

    def _keep(self, fields: dict[str, Any], kept: list[dict[str, Any]]) -> str:
        kept.append(fields)
        text = json.dumps(fields)
        self._characters += len(text)
        return text

    def _flush(self) -> None:
        if not self._rows:
            return
        columns = [list(column) for column in zip(*self._rows, strict=True)]
        self._spill.write(pa.record_batch(columns, schema=SCHEMA))
        _add_types(self.fields, self._results)
        _add_types(self.payload_fields, self._payloads)
        self._rows, self._results, self._payloads, self._characters = [], [], [], 0


def _add_types(types: dict[str, pa.DataType | None], objects: list[dict[str, Any]]) -> None:
    for name in dict.fromkeys(name for fields in objects for name in fields):
        new = type_of([fields.get(name) for fields in objects])
        types[name] = common_type(types.get(name, pa.null()), new)


def type_of(values: list[Any]) -> pa.DataType | None:
    """Return the values' Arrow type by inference, or `MIXED`."""
    try:
        arrow_type = pa.array(values).type
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        return MIXED
    return arrow_type if bool_as_number(values, arrow_type) is None else MIXED


def common_type(one: pa.DataType | None, other: pa.DataType | None) -> pa.DataType | None:
    """Return the type that holds the values of both, or `MIXED`."""
    if one is MIXED or other is MIXED:
        return MIXED
    if one == other:
        return one
    schemas = [pa.schema([("x", arrow_type)]) for arrow_type in (one, other)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return MIXED


class ResultLookup:
    """Results by the ids of their jobs, in flat memory.

    Usually the server lists a table's jobs in the table's order: then a buffer of what comes next
    is enough. Otherwise all of it goes into an index on the disk.
    """

    def __init__(self, outcomes: ResultStore) -> None:
        self._outcomes = outcomes
        self._coming = outcomes.batches()
        self._buffer: pa.Table = SCHEMA.empty_table()
        self._index: sqlite3.Connection | None = None

    def of(self, job_ids: pa.StringArray) -> pa.Table:
        """Return a line for each id; `status` is null if the server has no such job."""
        if self._index is None:
            results = self._in_buffer(job_ids)
            if results is not None:
                return results
            self._index = _index(self._outcomes)
        find = self._index.execute
        query = f"SELECT {', '.join(SCHEMA.names)} FROM outcomes WHERE job_id = ?"  # noqa: S608
        nothing = (None,) * len(SCHEMA)
        rows = [find(query, (job_id,)).fetchone() or nothing for job_id in job_ids.to_pylist()]
        columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in SCHEMA]
        return pa.table(columns, schema=SCHEMA)

    def _in_buffer(self, job_ids: pa.StringArray) -> pa.Table | None:
        wanted = job_ids.drop_null()
        while True:
            buffered = self._buffer.column("job_id")
            indexes = pc.index_in(job_ids, value_set=buffered.combine_chunks())
            if len(indexes) - indexes.null_count == len(wanted):
                break
            more = next(self._coming, None) if len(buffered) < _BUFFER_ROWS else None
            if more is None:
                return None
            self._buffer = pa.concat_tables([self._buffer, pa.Table.from_batches([more])])
        results = self._buffer.take(indexes)
        if len(wanted):
            self._buffer = self._buffer.slice(pc.max(indexes).as_py() + 1).combine_chunks()
        return results


def _index(outcomes: ResultStore) -> sqlite3.Connection:
    index = spill_database(
        "CREATE TABLE outcomes (job_id TEXT PRIMARY KEY, status, error, settled_at, result, "
        "payload) WITHOUT ROWID"
    )
    for record_batch in outcomes.batches():
        rows = zip(*(column.to_pylist() for column in record_batch.columns), strict=True)
        insert(index, "INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?, ?, ?, ?)", rows)
    return index
