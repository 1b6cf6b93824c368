"""The worker: takes jobs from queues, renews their leases, and settles them.

The way of a job: `fetcher` (how many: `fetch_policy`; while a queue is empty: `idle_wait`) →
`lease_table` → `executors` or `processes`, which call the `handler` by its `adapter`, or by
`batch_handlers` → `outcome` → `settler` (`batch_settler`, or `settle_channels` for a plain server).
`lease_renewer` (on a thread of its own), `registration` and `watchdog` run beside it, `engine`
runs them all in an `event_loop` that no handler ends, `loop_monitor` names what blocks that, and
`worker` is what users see.

Names are loaded when they are first used: a process that only runs handlers needs no gRPC.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spooled_pipelines.worker.batch_handlers import batch_handler
    from spooled_pipelines.worker.context import JobContext
    from spooled_pipelines.worker.engine import WorkerReport
    from spooled_pipelines.worker.outcome import Discard, Retry, Snooze, Throttled
    from spooled_pipelines.worker.settings import QueueShare
    from spooled_pipelines.worker.settler import Settled
    from spooled_pipelines.worker.worker import Worker

__all__ = [
    "Discard",
    "JobContext",
    "QueueShare",
    "Retry",
    "Settled",
    "Snooze",
    "Throttled",
    "Worker",
    "WorkerReport",
    "batch_handler",
]

_HOMES = {
    "Discard": "outcome",
    "JobContext": "context",
    "QueueShare": "settings",
    "Retry": "outcome",
    "Settled": "settler",
    "Snooze": "outcome",
    "Throttled": "outcome",
    "Worker": "worker",
    "WorkerReport": "engine",
    "batch_handler": "batch_handlers",
}

# A type checker would take it for a definition of every name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
