"""The operators: enqueue a table, work on its jobs, fetch their results."""

from __future__ import annotations

import spooled_pipelines.airflow.platform.versions  # noqa: F401 - it says which Airflow is needed, first
from spooled_pipelines.airflow.operators.batch_results import BatchResultsOperator
from spooled_pipelines.airflow.operators.enqueue_batch import EnqueueBatchOperator
from spooled_pipelines.airflow.operators.run_worker import SpooledWorkOperator

__all__ = ["BatchResultsOperator", "EnqueueBatchOperator", "SpooledWorkOperator"]
