"""The door to Dagster: a resource that enqueues and waits, and a sensor for settled batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spooled_pipelines._lazy import attach

if TYPE_CHECKING:
    from spooled_pipelines.dagster.resource import SpooledResource
    from spooled_pipelines.dagster.run_batch import RunBatch
    from spooled_pipelines.dagster.sensors import settled_batch_sensor

__all__ = ["RunBatch", "SpooledResource", "settled_batch_sensor"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "dagster.resource": "SpooledResource",
        "dagster.run_batch": "RunBatch",
        "dagster.sensors": "settled_batch_sensor",
    },
    extra="dagster",
)
