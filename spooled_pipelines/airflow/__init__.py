"""The Airflow provider: a hook, an operator that enqueues a table, a sensor that waits for it.

Airflow imports this package while it looks for providers, in every command: so the names load
what they need only when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spooled_pipelines.airflow.decorator import enqueue_batch
    from spooled_pipelines.airflow.hook import SpooledAsyncHook, SpooledHook
    from spooled_pipelines.airflow.operator import EnqueueBatchOperator
    from spooled_pipelines.airflow.results import BatchResultsOperator
    from spooled_pipelines.airflow.sensor import StreamJobsSensor
    from spooled_pipelines.airflow.work import SpooledWorkOperator

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
    "BatchResultsOperator": "results",
    "EnqueueBatchOperator": "operator",
    "SpooledAsyncHook": "hook",
    "SpooledHook": "hook",
    "SpooledWorkOperator": "work",
    "StreamJobsSensor": "sensor",
    "enqueue_batch": "decorator",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
