"""Ten thousand rows out of a DAG in three ways, in one Airflow: what each takes.

Our operator with the table; the same operator mapped over chunks of a thousand rows; and one task
that loops over the official SDK, which is what people write today.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.airflow_home import airflow, run
from benchmarks.servers import API_KEY, server
from benchmarks.tables import flights
from spooled_pipelines import connect

_ROWS, _CHUNK, _ROUNDS = 10_000, 1_000, 3
_SECONDS = 600.0

_OPERATOR = """
from airflow.sdk import DAG
from spooled_pipelines.airflow import EnqueueBatchOperator

with DAG(dag_id="operator", schedule=None):
    EnqueueBatchOperator(
        task_id="enqueue", data="{folder}/all.parquet", queue_name="operator", key="flight"
    )
"""
_EXPAND = """
from airflow.sdk import DAG
from spooled_pipelines.airflow import EnqueueBatchOperator

with DAG(dag_id="expand", schedule=None):
    EnqueueBatchOperator.partial(task_id="enqueue", queue_name="expand", key="flight").expand(
        data=["{folder}/%d.parquet" % chunk for chunk in range({chunks})]
    )
"""
_LOOP = """
from airflow.sdk import DAG, task

with DAG(dag_id="loop", schedule=None):

    @task
    def enqueue():
        import pandas as pd
        from spooled.grpc.client import SpooledGrpcClient

        client = SpooledGrpcClient(address="{address}", api_key="{key}", use_tls=False)
        for row in pd.read_parquet("{folder}/all.parquet").to_dict("records"):
            client.queue.enqueue("loop", row)

    enqueue()
"""
_WAYS = {
    "operator": "EnqueueBatchOperator",
    "expand": f".expand, chunks of {_CHUNK:,}",
    "loop": "one task that loops over the SDK",
}


def ways() -> bool:
    """Each in turn, three times; then whether every row became a job each time."""
    with tempfile.TemporaryDirectory(prefix="spooled-benchmarks-") as name, server() as address:
        folder = Path(name)
        _write(folder)
        chunks = _ROWS // _CHUNK
        texts = {"operator": _OPERATOR, "expand": _EXPAND, "loop": _LOOP}
        filled = {"folder": folder, "chunks": chunks, "address": address, "key": API_KEY}
        dags = {dag_id: text.format(**filled) for dag_id, text in texts.items()}
        took: dict[str, list[tuple[float, float]]] = {way: [] for way in _WAYS}
        with airflow(folder, dags, address) as running:
            # What is loaded for the first time is loaded for all.
            run(running, "operator", "warm-up", _SECONDS)
            for number in range(_ROUNDS):
                for way in _WAYS:
                    took[way].append(_seconds(run(running, way, f"run-{number}", _SECONDS)))
        with connect(address, api_key=API_KEY) as client:
            jobs = {way: client.queue_stats(way).total for way in _WAYS}
    return _report(took, jobs)


def _write(folder: Path) -> None:
    table = pa.Table.from_pandas(flights(_ROWS), preserve_index=False)
    pq.write_table(table, folder / "all.parquet")
    for chunk in range(_ROWS // _CHUNK):
        pq.write_table(table.slice(chunk * _CHUNK, _CHUNK), folder / f"{chunk}.parquet")


def _seconds(instances: list[dict[str, Any]]) -> tuple[float, float]:
    """From the first task's start to the last one's end; and what a worker slot was held."""
    starts = [datetime.fromisoformat(one["start_date"]) for one in instances]
    ends = [datetime.fromisoformat(one["end_date"]) for one in instances]
    held = sum((end - start).total_seconds() for start, end in zip(starts, ends, strict=True))
    return (max(ends) - min(starts)).total_seconds(), held


def _report(took: Mapping[str, list[tuple[float, float]]], jobs: Mapping[str, int]) -> bool:
    medians = {
        way: (statistics.median(one[0] for one in runs), statistics.median(one[1] for one in runs))
        for way, runs in took.items()
    }
    for other in ("expand", "loop"):
        ratio = medians[other][0] / medians["operator"][0]
        print(f"{ratio:8.2f} ×  as long takes {_WAYS[other]} as {_WAYS['operator']}")
    for way, (wall, held) in medians.items():
        print(
            f"            {_WAYS[way]}: {wall:.1f} s from start to end, {held:.1f} s of a worker "
            f"slot ({len(took[way])} runs: {', '.join(f'{one[0]:.1f}' for one in took[way])})"
        )
    # The operator's queue has the rows of the warm-up too: another run is another batch.
    wanted = {way: _ROWS * (_ROUNDS + (way == "operator")) for way in _WAYS}
    print(f"            jobs afterwards: {dict(jobs)}, wanted {wanted}", flush=True)
    return dict(jobs) == wanted
