"""Following a batch on a server that knows no batches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from spooled_pipelines.batch.queue_view import JobsView, queue_as_batch
from spooled_pipelines.errors import NotFoundError
from spooled_pipelines.rpc import methods, requests
from spooled_pipelines.rpc.aio.calls import AsyncCalls
from spooled_pipelines.rpc.aio.runtime import run_pipelined
from spooled_pipelines.rpc.convert import queue_stats_from
from spooled_pipelines.rpc.values import BatchStats, QueueStats
from spooled_pipelines.wire import spooled_v1

_CALLS = 32


async def queue_stats(
    calls: AsyncCalls, queue_name: str, timeout: float | None = None
) -> QueueStats:
    """Where a queue stands."""
    request = requests.queue_stats(queue_name)
    method = methods.QUEUE["GetQueueStats"]
    answer = await calls.unary(method, request, timeout=timeout, repeatable=True)
    return queue_stats_from(answer)


class AsyncQueueFollower:
    """Statistics from GetQueueStats, made exact with GetJob where the jobs are known."""

    def __init__(
        self,
        calls: AsyncCalls,
        batch_id: str,
        queue_name: str,
        name: str,
        before: QueueStats | None,
        job_ids: list[str] | None,
    ) -> None:
        self._calls = calls
        self._batch_id = batch_id
        self._queue_name = queue_name
        self._name = name
        self._before = before
        self._jobs = None if job_ids is None else JobsView(batch_id, queue_name, name, job_ids)

    async def stats(self, timeout: float | None = None) -> BatchStats:
        queue = await queue_stats(self._calls, self._queue_name, timeout)
        if self._jobs is None:
            return queue_as_batch(self._batch_id, self._name, self._before, queue)
        async for job in run_pipelined(self.job, self._jobs.to_ask(queue), _CALLS):
            self._jobs.learn(job)
        return self._jobs.stats(queue)

    async def job(self, job_id: str) -> spooled_v1.Job:
        """One job."""
        request: Any = requests.get_job(job_id)
        answer = await self._calls.unary(methods.QUEUE["GetJob"], request, repeatable=True)
        job: spooled_v1.Job = answer.job
        return job

    def jobs(self, job_ids: Iterable[str]) -> AsyncIterator[spooled_v1.Job | None]:
        """Many jobs, in the order of their ids; None for each that is there no more."""
        return run_pipelined(self._job_if_there, job_ids, _CALLS)

    async def _job_if_there(self, job_id: str) -> spooled_v1.Job | None:
        try:
            return await self.job(job_id)
        except NotFoundError:
            return None
