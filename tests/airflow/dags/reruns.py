"""A DAG for each row of docs/airflow-reruns.md in which the DAG itself stays as it is."""

from __future__ import annotations

import os
import signal
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from spooled_pipelines.airflow import EnqueueBatchOperator

FOLDER = Path(os.environ["TESTS_FOLDER"])
START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def orders(ti: Any, padding: int = 0, dies: bool = False) -> list[dict[str, Any]]:
    """100 rows; the process that makes them leaves its id, and dies at its first try if told to."""
    (FOLDER / f"{ti.dag_id}.pid").write_text(str(os.getpid()))
    if dies:
        die_at_first(ti)
    return [{"order_id": number, "text": "x" * padding} for number in range(100)]


def die_at_first(ti: Any) -> None:
    if ti.try_number == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def enqueue(dag: DAG, **settings: Any) -> None:
    EnqueueBatchOperator(
        task_id="enqueue",
        **{"data": orders, "queue_name": dag.dag_id, "key": "order_id", **settings},
    )


def make_dag(name: str, **settings: Any) -> DAG:
    # All that is scheduled lies behind, so that nothing runs but what the tests make run.
    dates = {"start_date": START, "end_date": START + timedelta(days=90), "catchup": False}
    return DAG(dag_id=name, **{"schedule": None, **dates, **settings})


RETRIES: dict[str, Any] = {"retries": 1, "retry_delay": timedelta(seconds=0)}

with make_dag("dies_before") as dag:
    enqueue(dag, op_kwargs={"dies": True}, **RETRIES)

with make_dag("dies_during") as dag:
    # Wide rows, so that there are many messages to die between.
    wide = {"padding": 200_000}
    enqueue(dag, op_kwargs=wide, spooled_conn_id="spooled_cut", **RETRIES)

with make_dag("dies_after") as dag:
    enqueue(dag, post_execute=lambda context, result: die_at_first(context["ti"]), **RETRIES)

for choice in ("resume", "retry_failed", "fresh"):
    with make_dag(f"cleared_task_{choice}") as dag:
        enqueue(dag, on_rerun=choice)

for name in ("cleared_run", "marked_failed", "same_date", "another_date", "run_deleted"):
    with make_dag(name) as dag:
        enqueue(dag)

for name in ("backfill_new", "backfill_reprocess"):
    with make_dag(name, schedule="@daily") as dag:
        enqueue(dag)

with make_dag("named_by_date") as dag:
    enqueue(dag, name="orders/{{ ds }}")

with make_dag("mapped") as dag:
    EnqueueBatchOperator.partial(
        task_id="enqueue", data=orders, queue_name="mapped", key="order_id"
    ).expand(op_kwargs=[{"padding": padding} for padding in range(3)])
