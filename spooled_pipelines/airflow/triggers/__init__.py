"""The triggers: what waits in the triggerer for batches and queues, and what starts a DAG.

Airflow stores a trigger as its class's path, so the paths below are for good, wherever the classes
move: a task that is deferred during an upgrade resumes.
"""

from __future__ import annotations

from spooled_pipelines.airflow.triggers.asset_events import BatchDoneTrigger, DeadLettersTrigger
from spooled_pipelines.airflow.triggers.batch import BatchTrigger, QueueTrigger

__all__ = ["BatchDoneTrigger", "BatchTrigger", "DeadLettersTrigger", "QueueTrigger"]
