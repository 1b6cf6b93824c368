"""Jobs and their results as a stream of record batches."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Literal, TypeAlias, get_args

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.decoding.exact_columns import exact_column
from spooled_pipelines.batch.decoding.payload_columns import (
    MIXED,
    PayloadColumns,
    cast,
    decode_columns,
)
from spooled_pipelines.batch.outcome.job_results import (
    FIELDS_MAX,
    LOT_BYTES,
    ResultLookup,
    ResultStore,
    lot_bytes,
)
from spooled_pipelines.batch.outcome.job_results import SCHEMA as OUTCOMES
from spooled_pipelines.batch.outcome.known_types import NOTHING_KNOWN, KnownTypes
from spooled_pipelines.batch.outcome.ledger import REJECTED, AnyLedger, PartLedgers
from spooled_pipelines.batch.source.open import Source, open_source
from spooled_pipelines.batch.spill.database import insert, spill_database
from spooled_pipelines.batch.values.exact_arrays import MisfitError
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc import validation
from spooled_pipelines.text import shown

ResultOrder: TypeAlias = Literal["input", "settled"]
# What each field of the results is to be: a pyarrow Schema, or types by name.
ResultSchema: TypeAlias = "pa.Schema | Mapping[str, pa.DataType] | None"

# Types by field; None: too many fields for columns of their own.
_Types: TypeAlias = "Mapping[str, pa.DataType | None] | None"
# A row whose job the server has forgotten.
UNKNOWN = "unknown"
_OURS = {
    "row": pa.int64(),
    "job_id": pa.string(),
    "status": pa.string(),
    "error": pa.string(),
}
_LINES = pa.schema([("row", pa.int64()), *OUTCOMES])
_SETTLED_ROWS = 5_000


def parse_result_options(
    order: str, join: object, schema: ResultSchema, ledger: AnyLedger | None, *, payload: bool
) -> dict[str, pa.DataType] | None:
    """Return the schema's types by name, if one is given.

    Raises:
        InvalidArgumentError: an argument is wrong, or does not go with the others.
    """
    validation.one_of(order, "order", get_args(ResultOrder))
    if join is not None:
        if payload:
            raise InvalidArgumentError(
                "join= brings the columns of the table, and payload=True those of the payloads: "
                "pass one of them"
            )
        if ledger is None or isinstance(ledger, PartLedgers):
            raise InvalidArgumentError(
                "join= goes by the rows of one table, and this batch does not know them: ask the "
                "object that enqueue_batch() returned, or enqueue with ledger=PATH"
            )
        if order != "input":
            raise InvalidArgumentError('join= goes with order="input": the table is read in order.')
    if schema is None:
        return None
    fields = {f.name: f.type for f in schema} if isinstance(schema, pa.Schema) else schema
    if not isinstance(fields, Mapping) or not all(
        isinstance(arrow_type, pa.DataType) for arrow_type in fields.values()
    ):
        raise InvalidArgumentError("schema must be a pyarrow Schema, or Arrow types by field name")
    return dict(fields)


def results_reader(
    outcomes: ResultStore,
    ledger: AnyLedger | None,
    order: ResultOrder = "input",
    join: object = None,
    schema: Mapping[str, pa.DataType] | None = None,
    result_types: KnownTypes = NOTHING_KNOWN,
    table: KnownTypes = NOTHING_KNOWN,
) -> pa.RecordBatchReader:
    """Return a RecordBatchReader: row, job_id, status, error, then a column per result field.

    In the order of the ledger's rows (without one, of the outcomes), or of when the jobs settled.
    `join`: the table, whose own columns come first; or those of the payloads that were kept.
    `result_types` and `table` are what is known of the results and of the payloads.
    """
    outcomes.finish()
    lines = _without_rows(outcomes) if ledger is None else _of_rows(outcomes, ledger)
    if order == "settled":
        lines = _as_settled(lines)
    types = _in_order(outcomes.fields.types if schema is None else schema, result_types)
    source = None if join is None else open_source(join)
    theirs = [] if source is None else list(source.schema)
    payload_types = _in_order(outcomes.payload_fields.types, table)
    theirs += _fields("payload", payload_types)
    results = _fields("result", types)
    names = _named([field.name for field in theirs], [field.name for field in results])
    ours = [pa.field(names[name], arrow_type) for name, arrow_type in _OURS.items()]
    fields = [field.with_name(names["result." + field.name]) for field in results]
    schema_of_all = pa.schema([*theirs, *ours, *fields])
    columns: Iterator[list[pa.Array]] = (
        [
            *_columns_of("payload", line, payload_types, table),
            *(line.column(name) for name in _OURS),
            *_columns_of("result", line, types, result_types, is_exact=schema is not None),
        ]
        for line in lines
    )
    if source is not None:
        columns = _joined(source, columns)
    batches = (pa.record_batch(each, schema=schema_of_all) for each in columns)
    return pa.RecordBatchReader.from_batches(schema_of_all, batches)


def record_batch_of(
    outcomes: ResultStore,
    schema: Mapping[str, pa.DataType] | None,
    result_types: KnownTypes,
    table: KnownTypes,
) -> pa.RecordBatch:
    """Return the same of a few jobs at once, in their order and without rows of a ledger."""
    reader = results_reader(outcomes, None, "input", None, schema, result_types, table)
    [found] = reader.read_all().combine_chunks().to_batches()
    return found


def _without_rows(outcomes: ResultStore) -> Iterator[pa.RecordBatch]:
    for record_batch in outcomes.batches():
        no_rows = pa.nulls(record_batch.num_rows, pa.int64())
        yield pa.record_batch([no_rows, *record_batch.columns], schema=_LINES)


def _of_rows(outcomes: ResultStore, ledger: AnyLedger) -> Iterator[pa.RecordBatch]:
    """Yield every row: with its job's result, as rejected, or as unknown."""
    lookup = ResultLookup(outcomes)
    for record_batch, results in _found(ledger, lookup):
        status, error = (_combined(results.column(name)) for name in ("status", "error"))
        rejected = pc.equal(record_batch.column("outcome"), REJECTED)
        yield pa.record_batch(
            [
                record_batch.column("row"),
                record_batch.column("job_id"),
                pc.if_else(rejected, REJECTED, pc.fill_null(status, UNKNOWN)),
                pc.if_else(rejected, record_batch.column("reason"), error),
                *(_combined(results.column(name)) for name in ("settled_at", "result", "payload")),
            ],
            schema=_LINES,
        )


def _found(ledger: AnyLedger, lookup: ResultLookup) -> Iterator[tuple[pa.RecordBatch, pa.Table]]:
    """Yield rows of the ledger with the results of their jobs, as many as go together in memory."""
    for record_batch in ledger.reader():
        rest = record_batch
        while rest.num_rows:
            results = lookup.of(rest.column("job_id"))
            yield rest.slice(0, len(results)), results
            rest = rest.slice(len(results))


def _as_settled(lines: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the same in the order of settling, open jobs last; sorted on disk."""
    store = spill_database(
        "CREATE TABLE lines (line, job_id, status, error, settled_at, result, payload)"
    )
    for record_batch in lines:
        rows = zip(*(column.to_pylist() for column in record_batch.columns), strict=True)
        insert(store, "INSERT INTO lines VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    rows_in_order = store.execute(
        "SELECT * FROM lines ORDER BY settled_at IS NULL, settled_at, rowid"
    )
    for group in _lots(rows_in_order):
        yield pa.record_batch([list(column) for column in zip(*group, strict=True)], schema=_LINES)


def _lots(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    lot: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        lot.append(row)
        size += lot_bytes(row)
        if len(lot) == _SETTLED_ROWS or size >= LOT_BYTES:
            yield lot
            lot, size = [], 0
    if lot:
        yield lot


def _in_order(types: _Types, known: KnownTypes) -> _Types:
    """Return the fields of a table in its order, the others by name: the wire keeps none."""
    return None if types is None else known.merged(dict(types))


def _fields(whole: str, types: _Types) -> list[pa.Field]:
    """Return the fields; `whole`: of all in one."""
    if types is None:
        return [pa.field(whole, pa.string())]
    return [pa.field(name, pa.string() if kind is MIXED else kind) for name, kind in types.items()]


def _columns_of(
    column: str, line: pa.RecordBatch, types: _Types, known: KnownTypes, *, is_exact: bool = False
) -> list[pa.Array]:
    """Return the fields of a column of serialized Structs."""
    if types is None:
        return [_json([each or None for each in PayloadColumns(line.column(column), {}).objects])]
    if not types:
        return []
    columns = decode_columns(line.column(column), types, FIELDS_MAX)
    job_ids = line.column("job_id")
    arrays = []
    for name, kind in types.items():
        if name in known.types:
            arrays.append(_known(columns, name, known, f"{column} of job", job_ids))
        elif is_exact:
            arrays.append(_exact(columns, name, kind, job_ids))
        else:
            arrays.append(_inferred(columns, name, kind))
    return arrays


def _known(
    columns: PayloadColumns, name: str, known: KnownTypes, what: str, job_ids: pa.StringArray
) -> pa.Array:
    try:
        return known.array(columns, name)
    except MisfitError as error:
        value = columns.values(name)[error.index]
        raise InvalidArgumentError(
            f"the {what} {job_ids[error.index].as_py()} has {shown(value)} as {name!r}, and the "
            f"type that is kept with the batch is {known.types[name]}: read it with schema=, which "
            "gives its own types"
        ) from None


def _inferred(columns: PayloadColumns, name: str, arrow_type: pa.DataType | None) -> pa.Array:
    """Return values as the type that was inferred from all of them, which holds each as it is."""
    if name not in columns.arrays:
        return pa.nulls(len(columns.payloads), pa.string() if arrow_type is MIXED else arrow_type)
    if arrow_type is MIXED:
        return _json(columns.values(name))
    array = columns.arrays[name]
    same = None if array is MIXED else cast(array, arrow_type)
    return pa.array(columns.values(name), arrow_type) if same is None else same


def _json(values: list[Any]) -> pa.StringArray:
    return pa.array([None if value is None else json.dumps(value) for value in values], pa.string())


def _exact(
    columns: PayloadColumns, name: str, arrow_type: pa.DataType, job_ids: pa.StringArray
) -> pa.Array:
    try:
        return exact_column(columns, name, arrow_type)
    except MisfitError as error:
        value = columns.values(name)[error.index]
        raise InvalidArgumentError(
            f"the result of job {job_ids[error.index].as_py()} has {shown(value)} as "
            f"{name!r}, and {name + error.path!r} {error.reason}: give it another type in schema="
        ) from None


def _joined(source: Source, columns: Iterator[list[pa.Array]]) -> Iterator[list[pa.Array]]:
    """Yield each line behind the table's own row; both are cut wherever one of them ends."""
    ours: list[pa.Array] = []
    ended = f"{source.what} is not the table that was enqueued: it has "
    for record_batch in source.batches:
        own = _of_first_types(source, record_batch)
        start = 0
        while start < record_batch.num_rows:
            if not ours or not len(ours[0]):
                ours = next(columns, [])
                if not ours:
                    raise InvalidArgumentError(ended + "more rows than the ledger.")
                continue
            count = min(record_batch.num_rows - start, len(ours[0]))
            theirs = (column.slice(start, count) for column in own)
            yield [*theirs, *(column.slice(0, count) for column in ours)]
            ours = [column.slice(count) for column in ours]
            start += count
    if any(len(each[0]) for each in chain([ours] if ours else [], columns)):
        raise InvalidArgumentError(ended + "fewer rows than the ledger.")


def _of_first_types(source: Source, record_batch: pa.RecordBatch) -> list[pa.Array]:
    """Return a table's columns with the types of its first rows, which those of a list may change.

    Raises:
        InvalidArgumentError: a value would not be the same.
    """
    columns: list[pa.Array] = record_batch.columns
    if record_batch.schema.types == source.schema.types:
        return columns
    columns = []
    for field, column in zip(source.schema, record_batch.columns, strict=True):
        try:
            cast = column.cast(field.type)
            is_same = pa.types.is_null(column.type) or cast.cast(column.type).equals(column)
        except pa.ArrowException:
            is_same = False
        if not is_same:
            raise InvalidArgumentError(
                f"column {field.name!r} of {source.what} is {field.type} in its first rows and "
                f"{column.type} later. Pass a table, in which a column has one type."
            )
        columns.append(cast)
    return columns


def _named(theirs: Iterable[str], results: Iterable[str]) -> dict[str, str]:
    """Return the names of our columns and of the results' ("result." + field), each once."""
    taken = set(theirs)
    names = {}
    for ours in _OURS:
        names[ours] = _free(ours, "job.", taken)
        taken.add(names[ours])
    taken_by_fields = taken | set(results)
    for field in results:
        if field in taken:
            name = _free("result." + field, "result.", taken_by_fields)
            taken_by_fields.add(name)
        else:
            name = field
        names["result." + field] = name
    return names


def _free(name: str, prefix: str, taken: Iterable[str]) -> str:
    while name in taken:
        name = prefix + name
    return name


def _combined(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
