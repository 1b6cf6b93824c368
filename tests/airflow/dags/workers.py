"""Mapped tasks that fill one batch and say who ran them, for whichever executor is configured."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from spooled_pipelines.airflow import EnqueueBatchOperator, StreamJobsSensor

FOLDER = Path(os.environ["TESTS_FOLDER"])
PARTITIONS, ROWS_EACH = 20, 500


def partition(ti: Any, number: int) -> list[dict[str, int]]:
    """One part of the table, by a process that leaves its worker's name."""
    with (FOLDER / "ran").open("a") as ran:
        ran.write(f"{os.environ['TESTS_WORKER']} {number} {ti.try_number}\n")
    return [{"partition": number, "row": row} for row in range(ROWS_EACH)]


with DAG(dag_id="workers", schedule=None):
    enqueue = EnqueueBatchOperator.partial(
        task_id="enqueue",
        data=partition,
        queue_name="workers",
        key=["partition", "row"],
        name="workers/{{ run_id }}",
        part="{{ ti.map_index }}",
        executor=os.environ.get("TESTS_EXECUTOR"),
        retries=2,
        retry_delay=timedelta(seconds=0),
    ).expand(op_kwargs=[{"number": number} for number in range(PARTITIONS)])
    StreamJobsSensor(
        task_id="wait", batch=enqueue.output, executor=os.environ.get("TESTS_EXECUTOR")
    )
