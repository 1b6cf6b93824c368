"""Memory of the operator in a real Airflow that enqueues millions of rows of Parquet.

Airflow must keep none of the rows: each has a mark that is searched for everywhere.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.airflow_home import airflow, run
from benchmarks.servers import API_KEY, server
from benchmarks.tables import flights
from spooled_pipelines import connect

_ROWS, _PART = 5_000_000, 50_000
_MEBIBYTES, _KEPT_BYTES = 400.0, 2_048
# Put together at run time, since Airflow keeps a DAG's source.
_MARK = "mark of a row"
_SECONDS = 3_000.0

_DAG = """
import json
from pathlib import Path

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG
from spooled_pipelines.airflow import EnqueueBatchOperator


def peak(context, result):
    # The most that this process had in memory, KiB; a fork begins again at 0.
    lines = Path("/proc/self/status").read_text().splitlines()
    (kibibytes,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    Path("{folder}", context["ti"].task_id + ".peak").write_text(kibibytes)


with DAG(dag_id="memory", schedule=None):
    PythonOperator(task_id="empty", python_callable=lambda: None, post_execute=peak)
    EnqueueBatchOperator(
        task_id="enqueue",
        data="{folder}/rows.parquet",
        queue_name="memory",
        key="flight",
        post_execute=peak,
    )
"""


def memory_in_airflow(rows: int = _ROWS) -> bool:
    """Measure the peak above that of an empty task, and search for the rows' mark and the key."""
    with tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as name, server() as address:
        folder = Path(name)
        _write(folder / "rows.parquet", rows)
        with airflow(folder, {"memory": _DAG.format(folder=folder)}, address) as running:
            instances = run(running, "memory", "run-1", _SECONDS)
            xcom = running.returned("memory", "run-1", "enqueue")
            rendered = _rendered(running, "memory", "run-1", "enqueue")
        with connect(address, api_key=API_KEY) as client:
            jobs = client.queue_stats("memory").total
            payload = client.dequeue("memory", "reader")[0].payload
        peaks = {
            task: int((folder / f"{task}.peak").read_text()) / 1024 for task in ("empty", "enqueue")
        }
        texts = dict(_kept(folder / "airflow"))
    assert _MARK in str(payload), "no row has the mark: nothing is shown by not finding it"
    found = {
        what: [where for where, text in texts.items() if mark in text]
        for what, mark in (("the rows' mark", _MARK), ("the API key", API_KEY))
    }
    more = peaks["enqueue"] - peaks["empty"]
    sizes = {"XCom": len(json.dumps(xcom)), "rendered fields": len(json.dumps(rendered))}
    seconds = next(one["duration"] for one in instances if one["task_id"] == "enqueue")
    missed = "" if more <= _MEBIBYTES else ", MISSED"
    print(
        f"{more:8.0f} MiB above an empty PythonOperator, {rows:,} rows of Parquet "
        f"(wanted: at most {_MEBIBYTES:g} MiB{missed})"
    )
    print(
        f"            peak {peaks['enqueue']:,.0f} MiB, empty task {peaks['empty']:,.0f} MiB; "
        f"{jobs:,} jobs; the task took {seconds:,.0f} s, {rows / seconds:,.0f} rows/s"
    )
    for what, size in sizes.items():
        print(f"            {what}: {size:,} bytes (wanted: less than {_KEPT_BYTES:,})")
    for what, places in found.items():
        print(f"            {what}: {places or 'nowhere'} in {len(texts)} texts")
    kept = not any(found.values()) and max(sizes.values()) < _KEPT_BYTES
    return more <= _MEBIBYTES and kept and jobs == rows


def _write(path: Path, rows: int) -> None:
    part = pa.Table.from_pandas(flights(_PART), preserve_index=False)
    with pq.ParquetWriter(path, part.schema.append(pa.field("note", pa.string()))) as writer:
        for first in range(0, rows, _PART):
            numbers = pa.array(range(first, first + _PART), pa.int64())
            notes = pa.array([f"{_MARK} {first + row}" for row in range(_PART)])
            writer.write_table(part.set_column(0, "flight", numbers).append_column("note", notes))


def _rendered(running: Any, dag_id: str, run_id: str, task_id: str) -> Any:
    path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}"
    _, instance = running.ask("GET", path)
    return instance["rendered_fields"]


def _kept(home: Path) -> Iterator[tuple[str, str]]:
    """Every text that Airflow keeps: its logs, and its whole database."""
    for path in [*home.glob("logs/**/*.log*"), *home.glob("*.log")]:
        yield str(path.relative_to(home)), path.read_text("utf8", "replace")
    with closing(sqlite3.connect(home / "airflow.db")) as database:
        yield "the metadata database", "\n".join(database.iterdump())
