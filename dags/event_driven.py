"""Starts when a batch on the queue `orders` is done, no matter what enqueued it.

The watcher runs in the triggerer; each settled batch is an event of the asset `orders-done`,
and the event names the batch.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from spooled_pipelines.airflow import BatchDoneTrigger, SpooledHook

orders_done = Asset(
    "orders-done", watchers=[AssetWatcher(name="orders", trigger=BatchDoneTrigger("orders"))]
)

with DAG(
    dag_id="after_orders", schedule=[orders_done], catchup=False, doc_md=__doc__, tags=["spooled"]
):

    @task
    def total(triggering_asset_events: Any = None) -> dict[str, float]:
        """Add up what the jobs of each batch charged."""
        totals: dict[str, float] = {}
        with SpooledHook().get_conn() as client:
            for event in triggering_asset_events[orders_done]:
                batch_id = event.extra["payload"]["batch_id"]
                results = client.batch(batch_id).results()
                charged = (
                    results.column("charged").to_pylist()
                    if "charged" in results.column_names
                    else []
                )
                totals[batch_id] = float(sum(value or 0 for value in charged))
        return totals

    total()
