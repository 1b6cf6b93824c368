"""A table goes in, jobs come out, and the pipeline knows when they are done.

    import spooled_pipelines as sp

    with sp.connect("localhost:50051", api_key="sp_live_...") as client:
        batch = client.enqueue_batch(table, "flights", key="flight_id")
        batch.wait()
        results = batch.results()

Names are loaded when they are first used: importing this costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spooled_pipelines import errors
    from spooled_pipelines.batch.sync.batch import Batch
    from spooled_pipelines.client.aio.client import AsyncSpooledClient
    from spooled_pipelines.client.connect import connect
    from spooled_pipelines.client.sync.client import SpooledClient
    from spooled_pipelines.types import BatchStats, EnqueueResult, Job
    from spooled_pipelines.version import __version__

__all__ = [
    "AsyncSpooledClient",
    "Batch",
    "BatchStats",
    "EnqueueResult",
    "Job",
    "SpooledClient",
    "__version__",
    "connect",
    "errors",
]

_HOMES = {
    "AsyncSpooledClient": "client.aio.client",
    "Batch": "batch.sync.batch",
    "BatchStats": "types",
    "EnqueueResult": "types",
    "Job": "types",
    "SpooledClient": "client.sync.client",
    "__version__": "version",
    "connect": "client.connect",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("spooled_pipelines.errors")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
