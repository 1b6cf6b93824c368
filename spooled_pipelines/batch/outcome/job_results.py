"""Results of jobs, put aside as they come, so that they can be read in any order."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.decoding.payload_columns import (
    MIXED,
    TooManyFieldsError,
    common_type,
    decode_columns,
)
from spooled_pipelines.batch.spill.buffer import SpillBuffer
from spooled_pipelines.batch.spill.database import insert, spill_database
from spooled_pipelines.errors import ServerError
from spooled_pipelines.rpc.decode import job_status_from
from spooled_pipelines.wire import batch_v1, spooled_v1

# `settled_at` in milliseconds since the epoch; `result` and `payload` as serialized Structs.
SCHEMA = pa.schema(
    [
        ("job_id", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("settled_at", pa.int64()),
        ("result", pa.binary()),
        ("payload", pa.binary()),
    ]
)
_BATCH_ROWS = 10_000
# Of results and payloads that are in one lot.
LOT_BYTES = 16 << 20
# How far the server's order and the table's may differ without an index.
_BUFFER_ROWS, _BUFFER_BYTES = 100_000, 64 << 20
# With more fields than these, all of a result is one column.
FIELDS_MAX = 2_000


class FieldTypes:
    """The fields of the results, or of the payloads, that have come.

    Attributes:
        types: each field's type, or `MIXED`; None: there are more than FIELDS_MAX.
    """

    def __init__(self) -> None:
        self.types: dict[str, pa.DataType | None] | None = {}

    def add(self, structs: pa.BinaryArray) -> None:
        """Look at some more of them."""
        if self.types is None:
            return
        try:
            arrays = decode_columns(structs, fields_max=FIELDS_MAX).arrays
        except TooManyFieldsError:
            self.types = None
            return
        for name, array in arrays.items():
            found = self.types.get(name, pa.null())
            if found is not MIXED:
                found = MIXED if array is MIXED else common_type(found, array.type)
            self.types[name] = MIXED if found is MIXED or _width(found) > FIELDS_MAX else found
        if len(self.types) > FIELDS_MAX:
            self.types = None


def _width(arrow_type: pa.DataType) -> int:
    fields = map(arrow_type.field, range(arrow_type.num_fields))
    return 1 + sum(_width(field.type) for field in fields)


class ResultStore:
    """Jobs in the order in which the server listed them.

    Attributes:
        fields: of the results.
        payload_fields: those of the payloads, where they are kept.
        schemas: one of the jobs that came with each schema, by its number; 0: without one.
    """

    def __init__(self, *, keeps_payloads: bool = False, infers: bool = True) -> None:
        """`infers`: find the types of the results, which have no schema."""
        self.fields = FieldTypes()
        self.payload_fields = FieldTypes()
        self.schemas: dict[int, str] = {}
        self._keeps_payloads = keeps_payloads
        self._infers = infers
        self._spill = SpillBuffer(SCHEMA)
        self._rows: list[tuple[str, int, int, str, bytes, bytes]] = []
        self._pages: list[pa.RecordBatch] = []
        self._gathered = self._bytes = 0

    def add(self, job: spooled_v1.Job) -> None:
        """Record a job as the server returned it."""
        at = job.completed_at.ToMilliseconds() if job.HasField("completed_at") else 0
        result, payload = job.result.SerializeToString(), b""
        if self._keeps_payloads:
            payload = job.payload.SerializeToString()
        self.schemas.setdefault(job.schema_id, job.id)
        self._rows.append((job.id, job.status, at, job.last_error, result, payload))
        self._count(1, len(result) + len(payload))

    def add_columns(self, columns: batch_v1.JobColumns) -> None:
        """Record the jobs of a page."""
        rows = len(columns.job_ids)
        lists: tuple[Any, ...] = (
            columns.completed_at,
            columns.last_errors,
            columns.results,
            columns.payloads if self._keeps_payloads else (),
        )
        also = (*lists, columns.schema_ids)
        lengths = [len(columns.statuses), *(len(each) for each in also if each)]
        if set(lengths) - {rows}:
            raise ServerError(f"the server sent columns of {lengths} values for {rows} jobs")
        for number in set(columns.schema_ids) - self.schemas.keys():
            self.schemas[number] = columns.job_ids[list(columns.schema_ids).index(number)]
        if not columns.schema_ids and rows:
            self.schemas.setdefault(0, columns.job_ids[0])
        if rows:
            self._add_page(columns.job_ids, columns.statuses, *lists)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Return all of them, once adding is finished."""
        return self._spill.batches()

    def finish(self) -> None:
        """Finish adding: the types are known from now on."""
        self._flush()

    def _add_page(
        self, job_ids: Any, statuses: Any, completed_at: Any, errors: Any, *structs: Any
    ) -> None:
        """Put jobs by column with the others; an empty column has no values."""
        rows = len(job_ids)
        page = pa.record_batch(
            [
                pa.array(list(job_ids), pa.string()),
                _status_names(list(statuses)),
                _or_nulls(list(errors), "", rows, pa.string()),
                _or_nulls(list(completed_at), 0, rows, pa.int64()),
                *(_or_nulls(list(each), b"", rows, pa.binary()) for each in structs),
            ],
            schema=SCHEMA,
        )
        self._pages.append(page)
        self._count(rows, page.nbytes)

    def _count(self, rows: int, size: int) -> None:
        self._gathered += rows
        self._bytes += size
        if self._gathered >= _BATCH_ROWS or self._bytes >= LOT_BYTES:
            self._flush()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        self._gathered = self._bytes = 0
        if rows:
            self._add_page(*zip(*rows, strict=True))
        if not self._pages:
            return
        [lot] = pa.Table.from_batches(self._pages).combine_chunks().to_batches()
        self._spill.write(lot)
        if self._infers:
            self.fields.add(lot.column("result"))
        if self._keeps_payloads:
            self.payload_fields.add(lot.column("payload"))
        self._pages, self._gathered, self._bytes = [], 0, 0


def _status_names(numbers: list[int]) -> pa.StringArray:
    distinct = sorted(set(numbers))
    names = pa.array([str(job_status_from(number)) for number in distinct])
    return names.take(pc.index_in(pa.array(numbers, pa.int64()), pa.array(distinct, pa.int64())))


def _or_nulls(values: list[Any], nothing: object, rows: int, arrow_type: pa.DataType) -> pa.Array:
    if not values:
        return pa.nulls(rows, arrow_type)
    if nothing in values:
        values = [None if value == nothing else value for value in values]
    return pa.array(values, arrow_type)


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
        """Return a line for each of the first ids, as many as fit into a lot, and at least one.

        `status` is null if the server has no such job.
        """
        if self._index is None:
            results = self._in_buffer(job_ids)
            if results is not None:
                return results
            self._index = _index(self._outcomes)
        find = self._index.execute
        query = f"SELECT {', '.join(SCHEMA.names)} FROM outcomes WHERE job_id = ?"  # noqa: S608
        nothing = (None,) * len(SCHEMA)
        rows: list[tuple[Any, ...]] = []
        size = 0
        for job_id in job_ids.to_pylist():
            rows.append(find(query, (job_id,)).fetchone() or nothing)
            size += lot_bytes(rows[-1])
            if size >= LOT_BYTES:
                break
        return pa.table([list(column) for column in zip(*rows, strict=True)], schema=SCHEMA)

    def _in_buffer(self, job_ids: pa.StringArray) -> pa.Table | None:
        while True:
            buffered = self._buffer.column("job_id")
            indexes = pc.index_in(job_ids, value_set=buffered.combine_chunks())
            missing = pc.index(pc.and_(indexes.is_null(), job_ids.is_valid()), True).as_py()
            is_full = self._buffer.nbytes >= LOT_BYTES
            if missing < 0 or (missing and is_full):
                break
            has_room = len(buffered) < _BUFFER_ROWS and self._buffer.nbytes < _BUFFER_BYTES
            more = next(self._coming, None) if has_room else None
            if more is None:
                return None
            self._buffer = pa.concat_tables([self._buffer, pa.Table.from_batches([more])])
        results = self._buffer.take(indexes if missing < 0 else indexes.slice(0, missing))
        results = results.slice(0, _rows_of_lot(results))
        last = pc.max(indexes.slice(0, len(results))).as_py()
        if last is not None:
            self._buffer = self._buffer.slice(last + 1).combine_chunks()
        return results


def lot_bytes(row: tuple[Any, ...]) -> int:
    """Return the size of what a line's last two columns hold, its result and its payload."""
    return sum(len(each) for each in row[-2:] if each is not None)


def _rows_of_lot(results: pa.Table) -> int:
    """Return how many of the first lines fit into a lot, at least one."""
    if results.nbytes < LOT_BYTES:
        return len(results)
    sizes = [pc.binary_length(results.column(name)).fill_null(0) for name in SCHEMA.names[-2:]]
    reached = pc.cumulative_sum(pc.add(sizes[0], sizes[1]).cast(pa.int64()))
    return max(1, int(pc.sum(pc.less_equal(reached, LOT_BYTES)).as_py()))


def _index(outcomes: ResultStore) -> sqlite3.Connection:
    index = spill_database(
        "CREATE TABLE outcomes (job_id TEXT PRIMARY KEY, status, error, settled_at, result, "
        "payload) WITHOUT ROWID"
    )
    for record_batch in outcomes.batches():
        rows = zip(*(column.to_pylist() for column in record_batch.columns), strict=True)
        insert(index, "INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?, ?, ?, ?)", rows)
    return index
