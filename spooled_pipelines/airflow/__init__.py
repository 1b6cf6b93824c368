"""The Airflow provider: a hook, an operator that enqueues a table, a sensor that waits for it.

Airflow imports this package while it looks for providers, in every command: so the names load
what they need only when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spooled_pipelines.airflow.decorators.enqueue_batch import enqueue_batch
    from spooled_pipelines.airflow.hooks.spooled import SpooledAsyncHook, SpooledHook
    from spooled_pipelines.airflow.operators.batch_results import BatchResultsOperator
    from spooled_pipelines.airflow.operators.enqueue_batch import EnqueueBatchOperator
    from spooled_pipelines.airflow.operators.run_worker import SpooledWorkOperator
    from spooled_pipelines.airflow.sensors.stream_jobs import StreamJobsSensor

__all__ = [
    "BatchResultsOperator",
    "EnqueueBatchOperator",
    "SpooledAsyncHook",
    "SpooledHook",
    "SpooledWorkOperator",
    "StreamJobsSensor",
    "enqueue_batch",
]

_HOMES = {
    "BatchResultsOperator": "operators.batch_results",
    "EnqueueBatchOperator": "operators.enqueue_batch",
    "SpooledAsyncHook": "hooks.spooled",
    "SpooledHook": "hooks.spooled",
    "SpooledWorkOperator": "operators.run_worker",
    "StreamJobsSensor": "sensors.stream_jobs",
    "enqueue_batch": "decorators.enqueue_batch",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
