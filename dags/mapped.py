"""A table in parts: one mapped task for each, all of them one batch, and one wait for all.

All parts give the batch the same name. The wait comes after the last of them, seals the batch and
judges all jobs together. A part that is cleared on its own sends only what is missing.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from spooled_pipelines.airflow import EnqueueBatchOperator, StreamJobsSensor

with DAG(
    dag_id="readings",
    schedule=None,
    catchup=False,
    params={"stations": Param(4, type="integer", description="how many parts")},
    doc_md=__doc__,
    tags=["spooled"],
):

    @task
    def parts(params: Any = None) -> list[dict[str, int]]:
        """Return what each mapped task reads."""
        return [{"station": number} for number in range(params["stations"])]

    def readings(station: int) -> list[dict[str, int]]:
        """Return one part of the table."""
        return [{"station": station, "hour": hour, "level": hour * station} for hour in range(24)]

    enqueue = EnqueueBatchOperator.partial(
        task_id="enqueue",
        data=readings,
        queue_name="readings",
        key=["station", "hour"],
        part="{{ ti.map_index }}",
        max_active_tis_per_dagrun=4,
    ).expand(op_kwargs=parts())
    StreamJobsSensor(task_id="wait", batch=enqueue.output, max_failed=0.05, deferrable=True)
