"""The client's peak memory and its own work per row: five million rows against fifty thousand."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import Rate, show
from benchmarks.servers import server
from benchmarks.tables import flights

_SMALL, _LARGE = 50_000, 5_000_000
_WARM = 1_000
# The small table's work is over in a blink.
_SMALL_RUNS = 7
_GROWTH, _MOST_MIB, _COST = 1.2, 400, 1.1


class _Taken(NamedTuple):
    mib: float
    busy: Rate


def memory() -> bool:
    """Each in a process of its own, against the same server."""
    with tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as folder, server() as address:
        warm = Path(folder) / "warm.parquet"
        _write(warm, _WARM)
        small = _enqueued(Path(folder), warm, address, _SMALL, _SMALL_RUNS)
        large = _enqueued(Path(folder), warm, address, _LARGE, 1)
        # Minutes have passed, in which the machine may have become another.
        later = _enqueued(Path(folder), warm, address, _SMALL, _SMALL_RUNS)
    busy = Rate(small.busy.what, _SMALL, small.busy.seconds + later.busy.seconds)
    small = small._replace(busy=busy)
    times = _LARGE // _SMALL
    kept = [
        show(f"peak memory of {times} times the rows", large.mib / small.mib, at_most=_GROWTH),
        show(f"{_MOST_MIB} MiB of memory", large.mib / _MOST_MIB, at_most=1),
    ]
    for rows, taken in ((_SMALL, small), (_LARGE, large)):
        print(f"            {rows:>9,} rows from Parquet: {taken.mib:,.0f} MiB")
    cost = small.busy.per_second / large.busy.per_second
    kept.append(show(f"the client's work per row at {times} times the rows", cost, at_most=_COST))
    print(f"            {small.busy}\n            {large.busy}", flush=True)
    return all(kept)


def _enqueued(folder: Path, warm: Path, address: str, rows: int, runs: int) -> _Taken:
    path = folder / f"{rows}.parquet"
    if not path.exists():
        _write(path, rows)
    command = [sys.executable, "-m", "benchmarks.peak", str(warm), str(path), address, str(runs)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    said = json.loads(done.stdout)
    busy = Rate("per second that the client was busy", rows, tuple(said["seconds"]))
    return _Taken(said["kib"] / 1024, busy)


def _write(path: Path, rows: int) -> None:
    part = pa.Table.from_pandas(flights(min(rows, _SMALL)), preserve_index=False)
    with pq.ParquetWriter(path, part.schema) as writer:
        for first in range(0, rows, len(part)):
            numbers = pa.array(range(first, first + len(part)), pa.int64())
            writer.write_table(part.set_column(0, "flight", numbers))
