"""Waiting for the next job of an empty queue without polling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.client.aio.process import AsyncProcessStream
from spooled_pipelines.errors import SpooledError
from spooled_pipelines.rpc.requests import dequeue
from spooled_pipelines.types import Job
from spooled_pipelines.wire.spooled_v1 import DequeueRequest
from spooled_pipelines.worker.clock import Clock
from spooled_pipelines.worker.log import logger
from spooled_pipelines.worker.settings import WorkerSettings

_LAST_JOB_SECONDS = 1.0


class IdleSubscription:
    """A standing request for one job, on a ProcessJobs stream that stays open.

    Our server keeps such a request until a job comes, so that an idle worker begins within
    milliseconds. Another server may answer it at once with nothing; then the worker's back-off,
    asking again now and then, is what finds the next job.

    `on_job` gets the job with the time of its claim.
    """

    def __init__(
        self,
        client: AsyncSpooledClient,
        clock: Clock,
        settings: WorkerSettings,
        queue_name: str,
        on_job: Callable[[Job, float], None],
    ) -> None:
        self._client = client
        self._clock = clock
        self._settings = settings
        self._queue_name = queue_name
        self._on_job = on_job
        self._stream: AsyncProcessStream | None = None
        self._reader: asyncio.Task[None] | None = None
        self.is_open = False
        self._claim = DequeueRequest()

    async def request(self) -> None:
        """Ask for the next job, unless it is asked for already."""
        if self.is_open:
            return
        try:
            if self._stream is None:
                self._stream = self._client.process_jobs()
                self._reader = asyncio.ensure_future(self._read(self._stream))
            self._claim = dequeue(
                self._queue_name,
                self._settings.worker_id,
                lease_seconds=self._settings.lease_seconds,
            )
            self._client.claims.name(self._claim)
            self.is_open = True
            await self._stream.ask_for_jobs(self._claim)
        except SpooledError as error:
            logger.debug("no standing request for a job: %s", error)
            self._end()

    async def close(self) -> None:
        """Withdraw the request. A job that is already on its way is still taken."""
        stream, reader = self._stream, self._reader
        if stream is None or reader is None:
            return
        if self.is_open and not reader.done():
            try:
                await stream.done_writing()
                await self._clock.wait([reader], _LAST_JOB_SECONDS)
            except SpooledError:
                # The stream broke, and the request with it.
                self.is_open = False
        await stream.aclose()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, stream: AsyncProcessStream) -> None:
        try:
            async for answer in stream:
                self.is_open = False
                if isinstance(answer, Job):
                    self._on_job(called(answer, self._queue_name), self._clock.monotonic())
        except SpooledError as error:
            logger.debug("the stream for the next job ended: %s", error)
        finally:
            self._end()
            self._stream = None

    def _end(self) -> None:
        """Note that a job may be lost that was claimed for a request which is open still."""
        if self.is_open:
            self._client.claims.note(self._claim)
        self.is_open = False


def called(job: Job, queue_name: str) -> Job:
    """Return a job with its queue's name as the worker has it, which may be an earlier one."""
    return job if job.queue_name == queue_name else replace(job, queue_name=queue_name)
