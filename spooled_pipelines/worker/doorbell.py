"""Waiting at an empty queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.client.aio.process import AsyncProcessStream
from spooled_pipelines.errors import SpooledError
from spooled_pipelines.types import Job
from spooled_pipelines.worker.log import logger
from spooled_pipelines.worker.settings import WorkerSettings

_LAST_JOB_SECONDS = 1.0


class Doorbell:
    """A standing request for one job, in a conversation that stays open.

    Our server keeps such a request until a job comes, so that an idle worker begins within
    milliseconds. Another may answer it at once with nothing; then the worker's own patience,
    asking again now and then, is what finds the next job.
    """

    def __init__(
        self,
        client: AsyncSpooledClient,
        settings: WorkerSettings,
        queue_name: str,
        take: Callable[[Job, float], None],
        rung: Callable[[], None],
    ) -> None:
        self._client = client
        self._settings = settings
        self._queue_name = queue_name
        self._take = take
        self._on_ring = rung
        self._stream: AsyncProcessStream | None = None
        self._reader: asyncio.Task[None] | None = None
        self._standing = False

    async def close(self) -> None:
        """Take back the request. A job that is on its way is still taken."""
        stream, reader = self._stream, self._reader
        if stream is None or reader is None:
            return
        if self._standing and not reader.done():
            try:
                await stream.done_writing()
                await asyncio.wait([reader], timeout=_LAST_JOB_SECONDS)
            except SpooledError:
                # The conversation broke, and the request with it.
                self._standing = False
        await stream.aclose()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)

    async def ask(self) -> None:
        """Ask for the next job, unless it is asked for already; `rung` is called when it came."""
        if self._standing:
            return
        try:
            if self._stream is None:
                self._stream = self._client.process_jobs()
                self._reader = asyncio.ensure_future(self._read(self._stream))
            await self._stream.dequeue(
                self._queue_name,
                self._settings.worker_id,
                batch_size=1,
                lease_seconds=self._settings.lease_seconds,
            )
        except SpooledError as error:
            logger.debug("no standing request for a job: %s", error)
        else:
            self._standing = self._stream is not None

    async def _read(self, stream: AsyncProcessStream) -> None:
        try:
            async for answer in stream:
                self._standing = False
                if isinstance(answer, Job):
                    self._take(answer, time.monotonic())
                    self._on_ring()
        except SpooledError as error:
            logger.debug("the conversation for the next job ended: %s", error)
        finally:
            self._standing = False
            self._stream = None
