"""The Airflow provider: a hook, an operator that enqueues a table, a sensor that waits for it.

Airflow imports this package while it looks for providers, in every command: so the names load
what they need only when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

_ROOMS = {
    "BatchDoneTrigger": "triggers",
    "BatchResultsOperator": "operators",
    "DeadLettersTrigger": "triggers",
    "EnqueueBatchOperator": "operators",
    "SpooledHook": "hooks",
    "SpooledWorkOperator": "operators",
    "StreamJobsSensor": "sensors",
    "enqueue_batch": "decorators",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
