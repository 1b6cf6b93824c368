"""Reading a CSV file as it stands, against Arrow's own reader, which guesses."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from benchmarks import tables
from benchmarks.measure import Side, in_turns, show_ratio
from spooled_pipelines.batch.source.open import open_source

_ROWS, _RUNS = 200_000, 5


def text_files() -> bool:
    """Each reads the whole file to record batches, on one core, by the time that it was busy."""
    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory() as folder:
        kept = []
        for what, table in (("flat", tables.flights(_ROWS)), ("text", tables.texts(_ROWS // 4))):
            path = Path(folder) / f"{what}.csv"
            table.to_csv(path, index=False)
            kept.append(_compare(what, path, len(table)))
    return all(kept)


def _compare(what: str, path: Path, rows: int) -> bool:
    ours, theirs = in_turns(
        Side("ours, twice through the file", rows, lambda _: _ours(path)),
        Side("Arrow's reader", rows, lambda _: _arrows(path)),
        runs=_RUNS,
        clock=time.process_time,
    )
    return show_ratio(f"reading six {what} columns of CSV", 0.1, ours, theirs)


def _ours(path: Path) -> None:
    for _ in open_source(path).batches:
        pass


def _arrows(path: Path) -> None:
    with csv.open_csv(path) as reader:
        for _ in reader:
            pass
