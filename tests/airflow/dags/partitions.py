"""Two hundred mapped tasks that fill one batch, and a wait that seals it."""

from __future__ import annotations

from airflow.sdk import DAG

from spooled_pipelines.airflow import EnqueueBatchOperator, StreamJobsSensor

PARTITIONS, ROWS_EACH = 200, 10


def partition(number: int) -> list[dict[str, int]]:
    """One part of the table."""
    return [{"partition": number, "row": row} for row in range(ROWS_EACH)]


with DAG(dag_id="partitions", schedule=None):
    enqueue = EnqueueBatchOperator.partial(
        task_id="enqueue",
        data=partition,
        queue_name="partitions",
        key=["partition", "row"],
        name="partitions/{{ run_id }}",
        part="{{ ti.map_index }}",
    ).expand(op_kwargs=[{"number": number} for number in range(PARTITIONS)])
    StreamJobsSensor(task_id="wait", batch=enqueue.output)
