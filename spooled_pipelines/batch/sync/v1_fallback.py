# Made from spooled_pipelines/batch/aio/v1_fallback.py by `make proto`: change that, not this.
"""Following a batch on a server that knows no batches."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing

from spooled_pipelines.batch.outcome.v1_stats import JobsView, queue_as_batch
from spooled_pipelines.batch.sync.pipelining import pipelined
from spooled_pipelines.batch.window import window_of_calls
from spooled_pipelines.errors import NotFoundError
from spooled_pipelines.rpc import methods
from spooled_pipelines.rpc import requests as requests_of
from spooled_pipelines.rpc.decode import queue_stats_from
from spooled_pipelines.rpc.sync.connection import Calls
from spooled_pipelines.types import BatchStats, QueueStats
from spooled_pipelines.wire import spooled_v1

# How long one job is asked for again where the server is away; whoever watches has more patience.
_JOB_SECONDS = 10.0


def queue_stats(calls: Calls, queue_name: str, timeout: float | None = None) -> QueueStats:
    """Where a queue stands."""
    request = requests_of.queue_stats(queue_name)
    method = methods.QUEUE["GetQueueStats"]
    answer = calls.unary(method, request, timeout=timeout, repeatable=True)
    return queue_stats_from(answer)


def get_jobs(calls: Calls, job_ids: Iterable[str]) -> Generator[spooled_v1.Job | None, None]:
    """Many jobs, in the order of their ids; None for each that is there no more."""
    method = methods.QUEUE["GetJob"]
    requests = (requests_of.get_job(job_id).SerializeToString() for job_id in job_ids)
    window = window_of_calls()
    answers = pipelined(calls, method, requests, window, NotFoundError, _JOB_SECONDS)
    with closing(answers):
        for answer in answers:
            yield None if isinstance(answer, NotFoundError) else answer.job


class QueueFollower:
    """Statistics from GetQueueStats, made exact with GetJob where the jobs are known."""

    def __init__(
        self,
        calls: Calls,
        batch_id: str,
        queue_name: str,
        name: str,
        before: QueueStats | None,
        job_ids: Iterable[str] | None,
    ) -> None:
        self._calls = calls
        self._batch_id = batch_id
        self._queue_name = queue_name
        self._name = name
        self._before = before
        self._jobs = None if job_ids is None else JobsView(batch_id, queue_name, name, job_ids)

    def stats(self, timeout: float | None = None) -> BatchStats:
        queue = queue_stats(self._calls, self._queue_name, timeout)
        if self._jobs is None:
            return queue_as_batch(self._batch_id, self._name, self._before, queue)
        with closing(get_jobs(self._calls, self._jobs.to_ask(queue))) as jobs:
            for job in jobs:
                if job is not None:
                    self._jobs.learn(job)
        return self._jobs.stats(queue)
