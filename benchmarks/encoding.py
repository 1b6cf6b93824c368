"""Encoding alone: columns to wire bytes, against dicts and Struct.update row by row."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
from google.protobuf.struct_pb2 import Struct

from benchmarks import tables
from benchmarks.measure import Side, in_turns, show, show_ratio
from spooled_pipelines.batch.encoding.column_mapping import map_columns
from spooled_pipelines.batch.encoding.rows import encode_rows
from spooled_pipelines.batch.options.row_options import RowOptions
from spooled_pipelines.batch.source.open import open_source
from spooled_pipelines.batch.staging.idempotency import row_hashes

_RUNS = 5
_ROWS_A_SECOND = 600_000


class _Case(NamedTuple):
    """Ours does all rows, theirs the first of them: a rate needs no more."""

    what: str
    table: Any
    sample: int
    wanted: float


def encoding() -> bool:
    """Each from the same table, on one core and by the time that it was busy; they take turns."""
    pa.set_cpu_count(1)
    cases = (
        _Case("six flat columns", tables.flights(200_000), 10_000, 8),
        _Case("six columns of text", tables.texts(50_000), 5_000, 8),
        _Case("five nested columns", tables.nested(50_000), 2_500, 3),
        _Case("a hundred columns", tables.wide(20_000), 1_000, 8),
        _Case("six flat columns and one of mixed values", tables.mixed(50_000), 5_000, 5),
        _Case("one column of mixed values", tables.mixed(50_000)[["value"]], 5_000, 2),
    )
    kept = [_compare(case) for case in cases]
    return _with_keys(cases[0].table) and all(kept)


def _compare(case: _Case) -> bool:
    sample = _head(case.table, case.sample)
    ours, theirs = in_turns(
        Side("source, encoder", len(case.table), lambda _: _encode(case.table)),
        Side("rows as dicts, Struct.update, serialize", case.sample, lambda _: _structs(sample)),
        runs=_RUNS,
        clock=time.process_time,
    )
    return show_ratio(f"encoding alone, {case.what}", case.wanted, ours, theirs)


def _with_keys(frame: pd.DataFrame) -> bool:
    side = Side("with a key for each row", len(frame), lambda _: _encode(frame, keys=True))
    (keyed,) = in_turns(side, runs=_RUNS, clock=time.process_time)
    promise = f"{_ROWS_A_SECOND:,} six-column rows a second"
    kept = show(promise, keyed.per_second / _ROWS_A_SECOND, at_least=1)
    print(f"            {keyed}", flush=True)
    return kept


def _encode(table: Any, keys: bool = False) -> None:
    source = open_source(table)
    mapping = map_columns(source.schema, RowOptions())
    row = 0
    for batch in source.batches:
        made = encode_rows(batch, mapping, row)
        if keys:
            row_hashes(made.identity, b"s" * 16)
        row += batch.num_rows


def _head(table: Any, rows: int) -> Any:
    return table.slice(0, rows) if isinstance(table, pa.Table) else table.head(rows)


def _structs(table: Any) -> None:
    row: Any
    if isinstance(table, pa.Table):
        rows = table.to_pylist(maps_as_pydicts="strict")
    else:
        rows = table.to_dict("records")
    for row in rows:
        struct = Struct()
        struct.update(row)
        struct.SerializeToString()
