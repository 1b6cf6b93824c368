# Generated from spooled_pipelines/batch/aio/v1_jobs.py by `make generate`: do not edit.
"""Queues and single jobs, which is what `spooled.v1` alone knows of a batch."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing

from spooled_pipelines.batch.flow_control import limit_of_calls
from spooled_pipelines.batch.sync.pipelining import pipelined
from spooled_pipelines.errors import NotFoundError
from spooled_pipelines.rpc import requests
from spooled_pipelines.rpc.decode import job_status_from, queue_stats_from
from spooled_pipelines.rpc.sync.connection import Connection
from spooled_pipelines.rpc.sync.runtime import monotonic, sleep
from spooled_pipelines.types import QueueStats
from spooled_pipelines.wire import methods, spooled_v1

# How long a call for one job is retried while the server is away; watching goes on for longer.
_JOB_SECONDS = 10.0
_PAUSE_FIRST_SECONDS, _PAUSE_SECONDS, _PAUSE_GROWTH = 0.05, 1.0, 1.5


def queue_stats(
    connection: Connection, queue_name: str, timeout: float | None = None
) -> QueueStats:
    """Return the statistics of a queue."""
    request = requests.queue_stats(queue_name)
    method = methods.QUEUE["GetQueueStats"]
    response = connection.unary(method, request, timeout=timeout, repeatable=True)
    return queue_stats_from(response)


def get_jobs(
    connection: Connection, job_ids: Iterable[str]
) -> Generator[spooled_v1.Job | None, None]:
    """Yield many jobs, in the order of their ids; None for each that no longer exists."""
    method = methods.QUEUE["GetJob"]
    messages = (requests.get_job(job_id).SerializeToString() for job_id in job_ids)
    limit = limit_of_calls()
    responses = pipelined(connection, method, messages, limit, NotFoundError, _JOB_SECONDS)
    with closing(responses):
        for response in responses:
            yield None if isinstance(response, NotFoundError) else response.job


class V1Backpressure:
    """Waits for capacity (`max_outstanding`) by a queue's statistics, and by its jobs if need be.

    Keeps the ids of the jobs that may be open, never more than the limit.
    """

    def __init__(self, connection: Connection, queue_name: str, limit: int) -> None:
        self._connection = connection
        self._queue_name = queue_name
        self._limit = limit
        self._open: set[str] = set()

    def sent(self, job_ids: list[str]) -> None:
        """Record the jobs that rows became; an empty id is a row that was refused."""
        self._open.update(job_id for job_id in job_ids if job_id)

    def wait_for_capacity(self, rows: int) -> None:
        """Return once this many rows stay within the limit."""
        pause = _PAUSE_FIRST_SECONDS
        settled = None
        while len(self._open) + rows > self._limit:
            started = monotonic()
            queue = queue_stats(self._connection, self._queue_name)
            if not queue.pending + queue.scheduled + queue.processing + queue.failed:
                # Everything on the queue is settled, and with it the batch's jobs.
                self._open.clear()
            elif settled != (queue.completed, queue.deadletter, queue.total):
                settled = (queue.completed, queue.deadletter, queue.total)
                self._drop_settled()
            if len(self._open) + rows > self._limit:
                # Polling must not become most of what the server does.
                sleep(max(pause, 2 * (monotonic() - started)))
                pause = min(_PAUSE_GROWTH * pause, _PAUSE_SECONDS)

    def _drop_settled(self) -> None:
        job_ids = sorted(self._open)
        with closing(get_jobs(self._connection, job_ids)) as jobs:
            asked = iter(job_ids)
            for job in jobs:
                job_id = next(asked)
                if job is None or job_status_from(job.status).settled:
                    self._open.discard(job_id)
