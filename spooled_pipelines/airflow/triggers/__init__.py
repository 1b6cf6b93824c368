"""The triggers: what waits in the triggerer for batches and queues, and what starts a DAG.

Airflow stores the path of a trigger's class. The paths below must not change, wherever the classes
move, so that a task that is deferred during an upgrade resumes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import spooled_pipelines.airflow.platform.versions  # noqa: F401 - it says which Airflow is needed, first
from spooled_pipelines._lazy import attach

if TYPE_CHECKING:
    from spooled_pipelines.airflow.triggers.asset_events import BatchDoneTrigger, DeadLettersTrigger
    from spooled_pipelines.airflow.triggers.batch import BatchTrigger, QueueTrigger, SpooledTrigger

__all__ = [
    "BatchDoneTrigger",
    "BatchTrigger",
    "DeadLettersTrigger",
    "QueueTrigger",
    "SpooledTrigger",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "airflow.triggers.asset_events": "BatchDoneTrigger DeadLettersTrigger",
        "airflow.triggers.batch": "BatchTrigger QueueTrigger SpooledTrigger",
    },
)
