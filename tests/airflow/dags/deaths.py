"""DAGs whose processes are killed while they run, and one of many runs."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from spooled_pipelines.airflow import EnqueueBatchOperator, StreamJobsSensor

FOLDER = Path(os.environ["TESTS_FOLDER"])
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
POINTS = 20
PARTITIONS = 200


def orders(ti: Any, rows: int = 100, padding: int = 0, first: int = 0) -> list[dict[str, Any]]:
    """Rows, by a process that leaves its id to those who want to kill it."""
    (FOLDER / f"{ti.dag_id}-{ti.map_index}.pid").write_text(str(os.getpid()))
    return [{"order_id": first + number, "text": "x" * padding} for number in range(rows)]


with DAG(dag_id="killed_tasks", schedule=None):
    # A connection each, so that each can be cut at a point of its own.
    EnqueueBatchOperator.partial(
        task_id="enqueue", data=orders, key="order_id", retries=1, retry_delay=timedelta(seconds=0)
    ).expand_kwargs(
        [
            {
                "queue_name": f"killed_tasks_{point}",
                "spooled_conn_id": f"spooled_point_{point}",
                "op_kwargs": {"padding": 100_000},
            }
            for point in range(POINTS)
        ]
    )

with DAG(dag_id="waiting_sensors", schedule=None):

    @task
    def batches() -> list[str]:
        return list(json.loads((FOLDER / "batches.json").read_text()))

    StreamJobsSensor.partial(task_id="wait", timeout=1800).expand(batch=batches())

with DAG(
    dag_id="sixty_days",
    schedule="@daily",
    start_date=START,
    end_date=START + timedelta(days=80),
    catchup=False,
):
    EnqueueBatchOperator(
        task_id="enqueue",
        data=orders,
        op_kwargs={"rows": 50},
        queue_name="days_{{ ds }}",
        key="order_id",
        retries=2,
        retry_delay=timedelta(seconds=0),
    )
