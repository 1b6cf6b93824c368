"""Jobs and their results as a stream of record batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Literal, TypeAlias, get_args

import pyarrow as pa
import pyarrow.compute as pc

from spooled_pipelines.batch.outcome.job_results import MIXED, ResultLookup, ResultStore
from spooled_pipelines.batch.outcome.job_results import SCHEMA as OUTCOMES
from spooled_pipelines.batch.outcome.ledger import REJECTED, AnyLedger, PartLedgers
from spooled_pipelines.batch.source.open import Source, open_source
from spooled_pipelines.batch.spill.database import insert, spill_database
from spooled_pipelines.batch.values.exact_arrays import MisfitError, exact_array
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc import validation
from spooled_pipelines.text import shown

ResultOrder: TypeAlias = Literal["input", "settled"]
# What each field of the results is to be: a pyarrow Schema, or types by name.
ResultSchema: TypeAlias = "pa.Schema | Mapping[str, pa.DataType] | None"

_MakeArray: TypeAlias = Callable[[list[Any], pa.DataType], pa.Array]
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
) -> pa.RecordBatchReader:
    """Return a RecordBatchReader: row, job_id, status, error, then a column per result field.

    In the order of the ledger's rows (without one, of the outcomes), or of when the jobs settled.
    `join`: the table, whose own columns come first; or those of the payloads that were kept.
    """
    outcomes.finish()
    lines = _without_rows(outcomes) if ledger is None else _of_rows(outcomes, ledger)
    if order == "settled":
        lines = _as_settled(lines)
    # On the wire an object's fields have no order.
    types = dict(sorted(outcomes.fields.items())) if schema is None else dict(schema)
    source = None if join is None else open_source(join)
    theirs = [] if source is None else list(source.schema)
    payload_types = dict(sorted(outcomes.payload_fields.items()))
    theirs += [pa.field(name, _arrow_type(kind)) for name, kind in payload_types.items()]
    names = _named([field.name for field in theirs], types)
    ours = [pa.field(names[name], arrow_type) for name, arrow_type in _OURS.items()]
    fields = [
        pa.field(names["result." + name], _arrow_type(arrow_type))
        for name, arrow_type in types.items()
    ]
    schema_of_all = pa.schema([*theirs, *ours, *fields])
    # What was inferred from the values holds them as they are.
    make = pa.array if schema is None else exact_array
    columns: Iterator[list[pa.Array]] = (
        [*_columns_of("payload", line, payload_types, pa.array), *_columns(line, types, make)]
        for line in lines
    )
    if source is not None:
        columns = _joined(source, columns)
    batches = (pa.record_batch(each, schema=schema_of_all) for each in columns)
    return pa.RecordBatchReader.from_batches(schema_of_all, batches)


def _without_rows(outcomes: ResultStore) -> Iterator[pa.RecordBatch]:
    for record_batch in outcomes.batches():
        no_rows = pa.nulls(record_batch.num_rows, pa.int64())
        yield pa.record_batch([no_rows, *record_batch.columns], schema=_LINES)


def _of_rows(outcomes: ResultStore, ledger: AnyLedger) -> Iterator[pa.RecordBatch]:
    """Yield every row: with its job's result, as rejected, or as unknown."""
    lookup = ResultLookup(outcomes)
    for record_batch in ledger.reader():
        results = lookup.of(record_batch.column("job_id")).combine_chunks()
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
    while group := rows_in_order.fetchmany(_SETTLED_ROWS):
        yield pa.record_batch([list(column) for column in zip(*group, strict=True)], schema=_LINES)


def _columns(
    line: pa.RecordBatch, types: Mapping[str, pa.DataType | None], make: _MakeArray
) -> list[pa.Array]:
    """Return our columns and the results' of some lines."""
    return [*(line.column(name) for name in _OURS), *_columns_of("result", line, types, make)]


def _columns_of(
    column: str, line: pa.RecordBatch, types: Mapping[str, pa.DataType | None], make: _MakeArray
) -> list[pa.Array]:
    """Return the fields of a column of JSON objects."""
    if not types:
        return []
    texts = line.column(column).to_pylist()
    objects = [{} if text is None else json.loads(text) for text in texts]
    return [
        _typed(name, [one.get(name) for one in objects], arrow_type, line.column("job_id"), make)
        for name, arrow_type in types.items()
    ]


def _arrow_type(found: pa.DataType | None) -> pa.DataType:
    return pa.string() if found is MIXED else found


def _typed(
    name: str,
    values: list[Any],
    arrow_type: pa.DataType | None,
    job_ids: pa.StringArray,
    make: _MakeArray,
) -> pa.Array:
    if arrow_type is MIXED:
        texts = [None if value is None else json.dumps(value) for value in values]
        return pa.array(texts, pa.string())
    try:
        return make(values, arrow_type)
    except MisfitError as error:
        raise InvalidArgumentError(
            f"the result of job {job_ids[error.index].as_py()} has {shown(values[error.index])} as "
            f"{name!r}, and {name + error.path!r} {error.reason}: give it another type in schema="
        ) from None


def _joined(source: Source, columns: Iterator[list[pa.Array]]) -> Iterator[list[pa.Array]]:
    """Yield each line behind the table's own row; both are cut wherever one of them ends."""
    ours: list[pa.Array] = []
    ended = f"{source.what} is not the table that was enqueued: it has "
    for record_batch in source.batches:
        start = 0
        while start < record_batch.num_rows:
            if not ours or not len(ours[0]):
                ours = next(columns, [])
                if not ours:
                    raise InvalidArgumentError(ended + "more rows than the ledger.")
                continue
            count = min(record_batch.num_rows - start, len(ours[0]))
            theirs = record_batch.slice(start, count).columns
            yield [*theirs, *(column.slice(0, count) for column in ours)]
            ours = [column.slice(count) for column in ours]
            start += count
    if any(len(each[0]) for each in chain([ours] if ours else [], columns)):
        raise InvalidArgumentError(ended + "fewer rows than the ledger.")


def _named(theirs: Iterable[str], types: Mapping[str, pa.DataType | None]) -> dict[str, str]:
    """Return the names of our columns and of the results' ("result." + field), each once."""
    taken = set(theirs)
    names = {}
    for ours in _OURS:
        names[ours] = _free(ours, "job.", taken)
        taken.add(names[ours])
    taken_by_fields = taken | (types.keys() - taken)
    for field in types:
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
