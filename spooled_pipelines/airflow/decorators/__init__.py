"""The task decorator."""

from __future__ import annotations

import spooled_pipelines.airflow.platform.versions  # noqa: F401 - it says which Airflow is needed, first
from spooled_pipelines.airflow.decorators.decorated_operator import (
    EnqueueBatchDecoratedOperator,
    enqueue_batch,
)

__all__ = ["EnqueueBatchDecoratedOperator", "enqueue_batch"]
