"""Tasks that wait for their jobs, for the test to mark or clear while they do."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG

from spooled_pipelines.airflow import EnqueueBatchOperator, StreamJobsSensor

ACTS = ("failed", "success", "cleared")


def orders() -> list[dict[str, Any]]:
    return [{"order_id": number} for number in range(100)]


def settings(dag: DAG, **others: Any) -> dict[str, Any]:
    common = {"task_id": "enqueue", "data": orders, "queue_name": dag.dag_id, "key": "order_id"}
    made = {**common, "wait_for_completion": True, **others}
    return {name: value for name, value in made.items() if value is not None}


for act in ACTS:
    with DAG(dag_id=f"deferred_{act}", schedule=None) as dag:
        EnqueueBatchOperator(**settings(dag))

    with DAG(dag_id=f"running_{act}", schedule=None) as dag:
        EnqueueBatchOperator(**settings(dag, deferrable=False))

    with DAG(dag_id=f"mapped_{act}", schedule=None) as dag:
        EnqueueBatchOperator.partial(**settings(dag, queue_name=None)).expand(
            queue_name=[f"{dag.dag_id}_{number}" for number in range(3)]
        )

    with DAG(dag_id=f"kept_{act}", schedule=None) as dag:
        EnqueueBatchOperator(**settings(dag, cancel_on_kill=False))

    with DAG(dag_id=f"sensor_{act}", schedule=None) as dag:
        enqueue = EnqueueBatchOperator(**settings(dag, wait_for_completion=False))
        StreamJobsSensor(task_id="wait", batch=enqueue.output)

    with DAG(dag_id=f"cancelling_sensor_{act}", schedule=None) as dag:
        enqueue = EnqueueBatchOperator(**settings(dag, wait_for_completion=False))
        StreamJobsSensor(task_id="wait", batch=enqueue.output, cancel_on_kill=True)
