"""Peak memory of the client: two million rows from Parquet against fifty thousand."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.servers import server
from benchmarks.tables import flights

_SMALL, _LARGE = 50_000, 2_000_000
_GROWTH = 1.2


def memory() -> bool:
    """Each in a process of its own, against the same server."""
    peaks = {}
    with tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as folder, server() as address:
        for rows in (_SMALL, _LARGE):
            path = Path(folder) / f"{rows}.parquet"
            _write(path, rows)
            command = [sys.executable, "-m", "benchmarks.peak", str(path), address]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peaks[rows] = int(done.stdout)
    growth = peaks[_LARGE] / peaks[_SMALL]
    kept = growth <= _GROWTH
    missed = "" if kept else ", MISSED"
    print(f"{growth:8.2f} ×  peak memory of {_LARGE // _SMALL} times the rows ", end="")
    print(f"(wanted: at most {_GROWTH:g} ×{missed})")
    for rows, peak in peaks.items():
        print(f"            {rows:>9,} rows from Parquet: {peak / 1024:,.0f} MiB", flush=True)
    return kept


def _write(path: Path, rows: int) -> None:
    part = pa.Table.from_pandas(flights(_SMALL), preserve_index=False)
    with pq.ParquetWriter(path, part.schema) as writer:
        for first in range(0, rows, _SMALL):
            numbers = pa.array(range(first, first + _SMALL), pa.int64())
            writer.write_table(part.set_column(0, "flight", numbers))
