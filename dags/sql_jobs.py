"""From a database into jobs, and what came of them back into it.

The rows of a query are streamed from the connection `shop` (any database that Airflow has a hook
for), and the results are written into its table `scores`.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import BaseHook
from airflow.sdk import DAG, Param, task

from spooled_pipelines.airflow import BatchResultsOperator, EnqueueBatchOperator, StreamJobsSensor

with DAG(
    dag_id="customer_scores",
    schedule=None,
    catchup=False,
    params={"since": Param("2026-01-01", type="string", description="customers since then")},
    doc_md=__doc__,
    tags=["spooled"],
):
    enqueue = EnqueueBatchOperator(
        task_id="enqueue",
        # People who trigger a run write the parameter: bound by the driver, it stays a value.
        # PostgreSQL's drivers write the placeholder %(since)s.
        sql="SELECT id, name, spent FROM customers WHERE since >= :since",
        parameters={"since": "{{ params.since }}"},
        sql_conn_id="shop",
        queue_name="scores",
        key="id",
        tags={"run": "{{ run_id }}"},
    )
    wait = StreamJobsSensor(task_id="wait", batch=enqueue.output, deferrable=True)
    results = BatchResultsOperator(task_id="results", batch=enqueue.output)

    @task
    def store(rows: list[dict[str, Any]]) -> int:
        """Write the scores; writing them again changes nothing."""
        scores = [(row["id"], row["score"]) for row in rows if row["status"] == "completed"]
        hook = BaseHook.get_hook("shop")
        hook.insert_rows(
            "scores", scores, ["customer", "score"], replace=True, replace_index="customer"
        )
        return len(scores)

    enqueue >> wait >> results
    store(results.output)  # type: ignore[arg-type]  # Airflow puts its value in place
