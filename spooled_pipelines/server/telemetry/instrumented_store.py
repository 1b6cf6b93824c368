"""A store that tells the metrics of each operation, and counts what goes through it."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from spooled_pipelines.server.core.jobs.records import JobRecord
from spooled_pipelines.server.core.runtime.lifecycle import LoopMonitor
from spooled_pipelines.server.core.runtime.notifier import CommitEvent
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.server.store.requests import ClaimRequest

if TYPE_CHECKING:
    # Its library is an extra.
    from spooled_pipelines.server.telemetry.metrics import Metrics


def instrumented(store: JobStore, metrics: Metrics) -> JobStore:
    """Return the store, each of its operations timed under its name."""
    return cast("JobStore", _InstrumentedStore(store, metrics))


class _InstrumentedStore:
    def __init__(self, store: JobStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._claim = self._timed("claim")
        # Not an operation.
        self.close = store.close

    async def open(
        self, on_commit: Callable[[CommitEvent], None], monitor: LoopMonitor | None = None
    ) -> None:
        def committed(changes: CommitEvent) -> None:
            self._metrics.committed(changes)
            on_commit(changes)

        await self._store.open(committed, monitor)

    async def claim(self, organization: str, request: ClaimRequest) -> list[JobRecord]:
        jobs: list[JobRecord] = await self._claim(organization, request)
        self._metrics.started(organization, request.queue_name, jobs)
        return jobs

    def __getattr__(self, name: str) -> Any:
        """Return what else the store has."""
        found = getattr(self._store, name)
        if not inspect.iscoroutinefunction(found):
            return found
        timed = self._timed(name)
        setattr(self, name, timed)
        return timed

    def _timed(self, name: str) -> Callable[..., Any]:
        async def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return await getattr(self._store, name)(*args, **kwargs)
            finally:
                self._metrics.store_operation(name, time.perf_counter() - began)

        return timed
