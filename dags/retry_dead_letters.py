"""Every night: what died of a time-out gets another chance, and anything else is reported."""

from __future__ import annotations

from collections import Counter
from typing import Any

from airflow.sdk import DAG, Param, task

from spooled_pipelines.airflow import SpooledHook, StreamJobsSensor

with DAG(
    dag_id="retry_dead_letters",
    schedule="0 3 * * *",
    catchup=False,
    params={
        "queue": Param("orders", type="string", description="the queue"),
        "error": Param("Timeout", type="string", description="the text in the errors"),
    },
    doc_md=__doc__,
    tags=["spooled"],
):

    @task
    def retry(params: Any = None) -> int:
        """Retry them, with all their retries. The key must be an admin's."""
        with SpooledHook().get_conn() as client:
            return client.retry_dead_letters(params["queue"], params["error"])

    done = StreamJobsSensor(
        task_id="done", queue_name="{{ params.queue }}", until="open == 0", timeout=6 * 3600
    )

    @task
    def report(params: Any = None) -> dict[str, int]:
        """Count the dead letters by error."""
        with SpooledHook().get_conn() as client:
            dead = client.dead_letters(params["queue"], limit=1_000)
        return dict(Counter((job.last_error or "?").split(":")[0] for job in dead))

    retry() >> done >> report()
