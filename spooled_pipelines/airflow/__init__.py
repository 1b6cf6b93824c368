"""The Airflow provider: a hook, an operator that enqueues a table, a sensor that waits for it.

Airflow imports this package while it looks for providers, in every command: so the names load
what they need only when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spooled_pipelines._lazy import attach

if TYPE_CHECKING:
    from spooled_pipelines.airflow.decorators import enqueue_batch
    from spooled_pipelines.airflow.hooks import SpooledHook
    from spooled_pipelines.airflow.operators import (
        BatchResultsOperator,
        EnqueueBatchOperator,
        SpooledWorkOperator,
    )
    from spooled_pipelines.airflow.sensors import StreamJobsSensor
    from spooled_pipelines.airflow.triggers import BatchDoneTrigger, DeadLettersTrigger

__all__ = [
    "BatchDoneTrigger",
    "BatchResultsOperator",
    "DeadLettersTrigger",
    "EnqueueBatchOperator",
    "SpooledHook",
    "SpooledWorkOperator",
    "StreamJobsSensor",
    "enqueue_batch",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "airflow.decorators": "enqueue_batch",
        "airflow.hooks": "SpooledHook",
        "airflow.operators": "BatchResultsOperator EnqueueBatchOperator SpooledWorkOperator",
        "airflow.sensors": "StreamJobsSensor",
        "airflow.triggers": "BatchDoneTrigger DeadLettersTrigger",
    },
    extra="airflow",
)
