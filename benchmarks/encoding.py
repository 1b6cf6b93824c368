"""Encoding alone: columns to wire bytes, against dicts and Struct.update row by row."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
from google.protobuf.struct_pb2 import Struct

from benchmarks.measure import Rate, rate, show_ratio
from benchmarks.tables import flights
from spooled_pipelines.batch.encode import encode
from spooled_pipelines.batch.keys import row_hashes
from spooled_pipelines.batch.mapping import make_mapping
from spooled_pipelines.batch.source import open_source

_ROWS = 200_000
_SAMPLE = 20_000
_ROWS_A_SECOND = 600_000


def encoding() -> bool:
    """Both from the same DataFrame, on one core."""
    frame = flights(_ROWS)
    pa.set_cpu_count(1)
    ours = rate("source, encoder", _ROWS, lambda _: _encode(frame), runs=5)
    keyed = rate("with a key for each row", _ROWS, lambda _: _encode(frame, keys=True), runs=5)
    theirs = rate("to_dict, Struct.update, serialize", _SAMPLE, lambda _: _structs(frame))
    kept = show_ratio("encoding alone", 8, ours, theirs)
    return _fast_enough(keyed) and kept


def _fast_enough(keyed: Rate) -> bool:
    kept = keyed.per_second >= _ROWS_A_SECOND
    ratio = keyed.per_second / _ROWS_A_SECOND
    missed = "" if kept else ", MISSED"
    print(f"{ratio:8.2f} ×  {_ROWS_A_SECOND:,} six-column rows a second (wanted: 1 ×{missed})")
    print(f"            {keyed}", flush=True)
    return kept


def _encode(frame: pd.DataFrame, keys: bool = False) -> None:
    source = open_source(frame)
    mapping = make_mapping(source.schema)
    row = 0
    for batch in source.batches:
        made = encode(batch, mapping, row)
        if keys:
            row_hashes(made.identity, b"s" * 16)
        row += batch.num_rows


def _structs(frame: pd.DataFrame) -> None:
    row: Any
    for row in frame.head(_SAMPLE).to_dict("records"):
        struct = Struct()
        struct.update(row)
        struct.SerializeToString()
