"""Dagster assets that are worked on by jobs: see docs/howto/from-dagster.md.

dagster dev -m examples.dagster_assets
"""

import os

import dagster as dg
import pandas as pd

from spooled_pipelines.dagster import SpooledResource, settled_batch_sensor

DAYS = dg.DailyPartitionsDefinition(start_date="2026-01-01")
QUEUE = os.environ.get("EXAMPLE_QUEUE", "orders")


@dg.asset(partitions_def=DAYS)
def orders(context: dg.AssetExecutionContext) -> pd.DataFrame:
    """Return a day's orders, which are a table of your own in real life."""
    return pd.DataFrame({"day": context.partition_key, "order_id": range(100), "amount": 9.5})


@dg.asset(partitions_def=DAYS)
def charges(
    context: dg.AssetExecutionContext, spooled: SpooledResource, orders: pd.DataFrame
) -> dg.MaterializeResult[pd.DataFrame]:
    """Charge a day's orders, each by a job."""
    batch = spooled.enqueue_batch(context, orders, QUEUE, key=["day", "order_id"])
    stats = batch.wait(max_failed=0.01)
    return dg.MaterializeResult(value=batch.results(), metadata=batch.metadata(stats))


@dg.op
def report(context: dg.OpExecutionContext, spooled: SpooledResource) -> None:
    """Log how a batch went, also one that something else enqueued."""
    with spooled.get_client() as client:
        stats = client.batch(context.run.tags["spooled/batch_id"]).stats()
    context.log.info(f"{stats.completed} of {stats.total} orders were charged")


@dg.job
def report_job() -> None:
    """Run `report`, which the sensor starts once for each batch."""
    report()


definitions = dg.Definitions(
    assets=[orders, charges],
    jobs=[report_job],
    sensors=[settled_batch_sensor("orders_settled", QUEUE, target=report_job)],
    resources={
        "spooled": SpooledResource(
            host=dg.EnvVar("SPOOLED_HOST"), api_key=dg.EnvVar("SPOOLED_API_KEY")
        )
    },
)
