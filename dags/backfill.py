"""A day's sales, each day, with a queue for each month: a year of it is one backfill.

    airflow backfill create --dag-id sales --from-date 2026-01-01 --to-date 2026-12-31

One task enqueues and waits, deferred. A backfill that is killed half-way and resumed, or one that
reprocesses runs, finds their batches again: no sale is sent twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import DAG

from spooled_pipelines.airflow import EnqueueBatchOperator

SALES_A_DAY = 200


def sales_of(ds: str) -> Iterator[dict[str, Any]]:
    """Yield the sales of a day, the same in every run."""
    for number in range(SALES_A_DAY):
        yield {"sale_id": f"{ds}/{number}", "amount": 5 + number % 40, "day": ds}


with DAG(
    dag_id="sales",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=4,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    doc_md=__doc__,
    tags=["spooled"],
):
    EnqueueBatchOperator(
        task_id="enqueue",
        data=sales_of,
        # A run that the shell or the API starts without a date has no `ds`.
        op_kwargs={"ds": "{{ ds | default('2026-01-01') }}"},
        queue_name="sales-{{ (ds | default('2026-01-01'))[:7] }}",
        key="sale_id",
        wait_for_completion=True,
        deferrable=True,
        wait_timeout=timedelta(hours=6),
        max_failed=0.01,
    )
