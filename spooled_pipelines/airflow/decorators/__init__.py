"""The task decorator."""

from __future__ import annotations

from spooled_pipelines.airflow.decorators.decorated_operator import (
    EnqueueBatchDecoratedOperator,
    enqueue_batch,
)

__all__ = ["EnqueueBatchDecoratedOperator", "enqueue_batch"]
