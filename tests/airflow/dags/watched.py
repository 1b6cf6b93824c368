"""A DAG that somebody starts and watches in Airflow's pages."""

from __future__ import annotations

from airflow.sdk import DAG

from spooled_pipelines.airflow import EnqueueBatchOperator, StreamJobsSensor

rows = [{"order_id": number} for number in range(20)]

with DAG(dag_id="watched", schedule=None):
    enqueue = EnqueueBatchOperator(
        task_id="enqueue", data=rows, queue_name="watched", key="order_id"
    )
    StreamJobsSensor(task_id="wait", batch=enqueue.output)
