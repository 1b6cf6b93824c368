"""A Prefect flow that fans a table out and waits: see docs/howto/from-prefect.md.

prefect server start                          the flow's server
python -m examples.prefect_flow orders.parquet
"""

import sys
from typing import Any

import pandas as pd
from prefect import flow, task

from spooled_pipelines.prefect import (
    SpooledBatch,
    SpooledCredentials,
    cancel_batches,
    enqueue_batch,
    wait_for_batch,
)


@task
def report(batch: SpooledBatch) -> pd.DataFrame:
    """Return what became of every order, the dead ones too."""
    return batch.result(raise_on_failure=False)


@flow(retries=1, on_cancellation=[cancel_batches])
def nightly(path: str, queue_name: str = "orders", block: str | None = None) -> pd.DataFrame:
    """Make each order a job; fail if more than one in a hundred fails."""
    # Where no block is named, SPOOLED_GRPC_ADDRESS and SPOOLED_API_KEY say where the server is.
    credentials: Any = None if block is None else SpooledCredentials.load(block)
    batch = enqueue_batch(path, queue_name, key="order_id", credentials=credentials)
    wait_for_batch(batch, max_failed=0.01)
    return report(batch)


if __name__ == "__main__":
    print(nightly(sys.argv[1]))
