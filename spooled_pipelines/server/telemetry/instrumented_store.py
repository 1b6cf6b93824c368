"""A store that counts what goes through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.lifecycle import LoopMonitor
from spooled_pipelines.server.core.notifier import CommitEvent
from spooled_pipelines.server.core.records import (
    Chunk,
    ChunkStored,
    Completion,
    Enqueued,
    FailOutcome,
    Holder,
    JobRecord,
    NewJob,
    Settlement,
)
from spooled_pipelines.server.store import JobStore

if TYPE_CHECKING:
    from spooled_pipelines.server.telemetry.metrics import Metrics


def instrumented(store: JobStore, metrics: Metrics) -> JobStore:
    """The same store; what comes in, claims, settles and commits are told to the metrics."""
    return cast("JobStore", _InstrumentedStore(store, metrics))


class _InstrumentedStore:
    def __init__(self, store: JobStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    def __getattr__(self, name: str) -> Any:
        # Whatever is not counted.
        return getattr(self._store, name)

    async def open(
        self, on_commit: Callable[[CommitEvent], None], monitor: LoopMonitor | None = None
    ) -> None:
        def committed(changes: CommitEvent) -> None:
            self._metrics.committed(changes)
            on_commit(changes)

        await self._store.open(committed, monitor)

    async def enqueue(self, organization: str, job: NewJob) -> Enqueued:
        outcome = await self._store.enqueue(organization, job)
        self._metrics.enqueued(organization, int(outcome.created), int(not outcome.created))
        return outcome

    async def add_chunk(self, organization: str, chunk: Chunk) -> ChunkStored:
        stored = await self._store.add_chunk(organization, chunk)
        duplicates = len(stored.duplicates)
        self._metrics.enqueued(organization, stored.rows - duplicates, duplicates)
        return stored

    async def claim(
        self, organization: str, queue_name: str, worker_id: str, lease_ms: int, limit: int
    ) -> list[JobRecord]:
        jobs = await self._store.claim(organization, queue_name, worker_id, lease_ms, limit)
        self._metrics.claimed(organization, len(jobs))
        return jobs

    async def complete(self, organization: str, holder: Holder, result: bytes | None) -> None:
        await self._store.complete(organization, holder, result)
        self._metrics.settled(organization, "completed")

    async def fail(self, organization: str, holder: Holder, error: str, retry: bool) -> FailOutcome:
        outcome = await self._store.fail(organization, holder, error, retry)
        self._metrics.settled(organization, "retry" if outcome.will_retry else "deadletter")
        return outcome

    async def settle(
        self, organization: str, settlements: Sequence[Settlement]
    ) -> list[FailOutcome | RefusedError | None]:
        outcomes = await self._store.settle(organization, settlements)
        for (_, act), outcome in zip(settlements, outcomes, strict=True):
            if isinstance(outcome, FailOutcome):
                kind = "retry" if outcome.will_retry else "deadletter"
                self._metrics.settled(organization, kind)
            elif outcome is None and isinstance(act, Completion):
                self._metrics.settled(organization, "completed")
        return outcomes
