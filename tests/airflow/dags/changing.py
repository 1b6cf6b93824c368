"""A DAG for each row of docs/airflow-reruns.md in which the DAG is changed in between.

The test puts a 2 in the place of the 1 in the next line of code.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from airflow.sdk import DAG

from spooled_pipelines.airflow import EnqueueBatchOperator

VERSION = 1


def orders(rows: int = 100, amount: int = 5) -> list[dict[str, Any]]:
    return [{"order_id": number, "line": number + 1000, "amount": amount} for number in range(rows)]


# What is another in the second version of each.
CHANGES: dict[str, dict[str, Any]] = {
    "rows_added": {"op_kwargs": {"rows": 110}},
    "rows_removed": {"op_kwargs": {"rows": 90}},
    "row_changed": {"op_kwargs": {"amount": 6}},
    "key_changed": {"key": "line"},
    "queue_changed": {"queue_name": "queue_changed_2"},
    "task_renamed": {"task_id": "enqueue_orders"},
}

for name, change in CHANGES.items():
    with DAG(dag_id=name, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
        settings = {"task_id": "enqueue", "data": orders, "queue_name": name, "key": "order_id"}
        EnqueueBatchOperator(**{**settings, **(change if VERSION == 2 else {})})
