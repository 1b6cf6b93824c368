"""Jobs from servers that do not answer Dequeue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.client.aio.process import AsyncProcessStream
from spooled_pipelines.client.aio.streams import AsyncJobStream
from spooled_pipelines.client.answers import Refusal
from spooled_pipelines.errors import SpooledError
from spooled_pipelines.rpc.values import Job
from spooled_pipelines.worker.log import logger
from spooled_pipelines.worker.settings import WorkerSettings

# Neither way says that a queue is empty: silence does, before the first job and between two.
_FIRST_SECONDS, _NEXT_SECONDS = 0.25, 0.05
# Where the worker ends once the queue is empty, it had better be.
_LAST_SECONDS = 2.0
_CLOSING_SECONDS = 1.0


class Pushed:
    """One queue's jobs over ProcessJobs, or where that is not served over StreamJobs.

    Each job is handed to `take` as it comes; `came` is called for those that come while nobody
    asks. StreamJobs has no word for how many are wanted: what was not asked for is not read.
    """

    def __init__(
        self,
        client: AsyncSpooledClient,
        settings: WorkerSettings,
        queue_name: str,
        take: Callable[[Job, float], None],
        came: Callable[[], None],
    ) -> None:
        self._client = client
        self._settings = settings
        self._queue_name = queue_name
        self._take = take
        self._came = came
        self._first = _LAST_SECONDS if settings.stop_when_empty else _FIRST_SECONDS
        self._serves_process_jobs = True
        self._stream: AsyncProcessStream | AsyncJobStream | None = None
        self._reader: asyncio.Task[None] | None = None
        self._is_asking = False
        self._wanted = 0
        self._arrived = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def ask(self, number: int) -> int:
        """Ask for so many jobs; how many came before there was silence.

        Raises SpooledError where the server is away, or serves neither.
        """
        self._is_asking = True
        try:
            return await self._ask(number)
        except SpooledError as error:
            await self.close()
            if error.code != "UNIMPLEMENTED" or not self._serves_process_jobs:
                raise
            logger.info("the server does not serve ProcessJobs: jobs come over StreamJobs")
            self._serves_process_jobs = False
            return await self._ask(number)
        finally:
            self._is_asking = False

    async def close(self) -> None:
        """Take back what is asked for. A job that is on its way is still taken, where possible."""
        stream, reader = self._stream, self._reader
        self._stream = self._reader = None
        self._wanted = 0
        if stream is None or reader is None:
            return
        try:
            if isinstance(stream, AsyncProcessStream) and not reader.done():
                await stream.done_writing()
                await asyncio.wait([reader], timeout=_CLOSING_SECONDS)
        except SpooledError as error:
            logger.debug("the stream of jobs broke: %s", error)
        await stream.aclose()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)

    async def _ask(self, number: int) -> int:
        before = self._arrived
        self._wanted = number
        self._room.set()
        reader, stream = self._open()
        if isinstance(stream, AsyncProcessStream):
            # Takes the place of what is still open.
            await stream.dequeue(
                self._queue_name,
                self._settings.worker_id,
                batch_size=number,
                lease_seconds=self._settings.lease_seconds,
            )
        while self._arrived - before < number and not reader.done():
            self._news.clear()
            news = asyncio.ensure_future(self._news.wait())
            silence = self._first if self._arrived == before else _NEXT_SECONDS
            done, _ = await asyncio.wait(
                [news, reader], timeout=silence, return_when=asyncio.FIRST_COMPLETED
            )
            news.cancel()
            if not done:
                break
        if reader.done():
            reader.result()
        return self._arrived - before

    def _open(self) -> tuple[asyncio.Task[None], AsyncProcessStream | AsyncJobStream]:
        if self._reader is not None and self._reader.done() and self._reader.exception() is None:
            # The server ended it, in peace.
            self._reader = self._stream = None
        if self._reader is None or self._stream is None:
            if self._serves_process_jobs:
                self._stream = self._client.process_jobs()
            else:
                self._stream = self._client.stream_jobs(
                    self._queue_name,
                    self._settings.worker_id,
                    lease_seconds=self._settings.lease_seconds,
                )
            self._reader = asyncio.ensure_future(self._read(self._stream))
        return self._reader, self._stream

    async def _read(self, stream: AsyncProcessStream | AsyncJobStream) -> None:
        async for answer in stream:
            if isinstance(answer, Refusal):
                raise answer.error
            if not isinstance(answer, Job):
                continue
            self._arrived += 1
            self._wanted -= 1
            self._take(answer, time.monotonic())
            self._news.set()
            if not self._is_asking:
                self._came()
            while self._wanted <= 0 and isinstance(stream, AsyncJobStream):
                self._room.clear()
                await self._room.wait()
