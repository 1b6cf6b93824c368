"""A store that tells the metrics of each operation, and counts what goes through it."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from spooled_pipelines.server.core.jobs.records import JobRecord, StoreLoad
from spooled_pipelines.server.core.runtime.lifecycle import LoopMonitor
from spooled_pipelines.server.core.runtime.notifier import CommitEvent
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.server.store.requests import ClaimRequest
from spooled_pipelines.server.telemetry.metrics import Metrics

T = TypeVar("T")
P = ParamSpec("P")


def _timed(
    operation: Callable[Concatenate[JobStore, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[InstrumentedStore, P], Coroutine[Any, Any, T]]:
    """Return the same operation of the store within, timed under its name."""
    name = operation.__name__

    async def method(store: InstrumentedStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        began = time.perf_counter()
        try:
            result: T = await getattr(store.store, name)(*args, **kwargs)
            return result
        finally:
            store.metrics.store_operation(name, time.perf_counter() - began)

    return method


class InstrumentedStore:
    """See `JobStore`, of which each operation stands here: what is not counted would be missed."""

    def __init__(self, store: JobStore, metrics: Metrics) -> None:
        self.store = store
        self.metrics = metrics

    async def open(
        self, on_commit: Callable[[CommitEvent], None], monitor: LoopMonitor | None = None
    ) -> None:
        def committed(changes: CommitEvent) -> None:
            self.metrics.committed(changes)
            on_commit(changes)

        await self.store.open(committed, monitor)

    async def close(self) -> None:
        await self.store.close()

    def job_ids_prefix(self) -> str:
        return self.store.job_ids_prefix()

    def schema(self) -> str:
        return self.store.schema()

    def load(self) -> StoreLoad:
        return self.store.load()

    async def claim(self, organization: str, request: ClaimRequest) -> list[JobRecord]:
        jobs = await self._claim(organization, request)
        self.metrics.started(organization, request.queue_name, jobs)
        return jobs

    enqueue = _timed(JobStore.enqueue)
    add_chunk = _timed(JobStore.add_chunk)
    settle = _timed(JobStore.settle)
    settle_chunk = _timed(JobStore.settle_chunk)
    _claim = _timed(JobStore.claim)
    renew_chunk = _timed(JobStore.renew_chunk)
    renew = _timed(JobStore.renew)
    revise = _timed(JobStore.revise)
    job = _timed(JobStore.job)
    jobs = _timed(JobStore.jobs)
    job_columns = _timed(JobStore.job_columns)
    attempts = _timed(JobStore.attempts)
    find_keys = _timed(JobStore.find_keys)
    keys_elsewhere = _timed(JobStore.keys_elsewhere)
    open_batch = _timed(JobStore.open_batch)
    stored_chunks = _timed(JobStore.stored_chunks)
    finish_part = _timed(JobStore.finish_part)
    batch_parts = _timed(JobStore.batch_parts)
    hear_upload = _timed(JobStore.hear_upload)
    payload_schema = _timed(JobStore.payload_schema)
    result_schema = _timed(JobStore.result_schema)
    keep_result_schema = _timed(JobStore.keep_result_schema)
    seal_batch = _timed(JobStore.seal_batch)
    batches = _timed(JobStore.batches)
    list_batches = _timed(JobStore.list_batches)
    cancel = _timed(JobStore.cancel)
    retry = _timed(JobStore.retry)
    queue = _timed(JobStore.queue)
    list_queues = _timed(JobStore.list_queues)
    control = _timed(JobStore.control)
    set_control = _timed(JobStore.set_control)
    depths = _timed(JobStore.depths)
    sizes = _timed(JobStore.sizes)
    end_worker = _timed(JobStore.end_worker)
    register_worker = _timed(JobStore.register_worker)
    heartbeat = _timed(JobStore.heartbeat)
    deregister_worker = _timed(JobStore.deregister_worker)
    queue_of_worker = _timed(JobStore.queue_of_worker)
    list_workers = _timed(JobStore.list_workers)
    add_key = _timed(JobStore.add_key)
    revoke_key = _timed(JobStore.revoke_key)
    keys = _timed(JobStore.keys)
    list_keys = _timed(JobStore.list_keys)
    count_keys = _timed(JobStore.count_keys)
    note_audit = _timed(JobStore.note_audit)
    list_audit = _timed(JobStore.list_audit)
    sweep = _timed(JobStore.sweep)
    recount = _timed(JobStore.recount)
