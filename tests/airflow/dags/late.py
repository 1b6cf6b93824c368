"""Nobody works on its queue, and Airflow does not enforce this limit while it is deferred."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from spooled_pipelines.airflow import EnqueueBatchOperator, StreamJobsSensor

# Written backwards, since Airflow keeps a DAG's source.
rows = [{"id": number, "text": "wor-dekram"[::-1]} for number in range(3)]

with DAG(dag_id="late", schedule=None):
    enqueue = EnqueueBatchOperator(
        task_id="enqueue", data=rows, queue_name="nobody", op_kwargs={"rows": rows}
    )
    StreamJobsSensor(task_id="wait", batch=enqueue.output, execution_timeout=timedelta(seconds=10))
