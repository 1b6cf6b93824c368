"""Taking jobs: as many as there is room for, and patiently from an empty queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.errors import RateLimitError, SpooledError
from spooled_pipelines.rpc.values import Job
from spooled_pipelines.worker.doorbell import Doorbell
from spooled_pipelines.worker.faults import is_passing
from spooled_pipelines.worker.flow import Backoff, Load, how_many
from spooled_pipelines.worker.log import logger
from spooled_pipelines.worker.settings import WorkerSettings


class Intake:
    """Asks for jobs until told to stop, and hands each to `take` with the time of its claim.

    Each question is a Dequeue of its own, because that has an end: in a conversation a request
    that finds fewer jobs than it asks for is not told so.
    """

    def __init__(
        self,
        client: AsyncSpooledClient,
        settings: WorkerSettings,
        *,
        load: Callable[[], Load],
        rate: Callable[[], float],
        take: Callable[[Job, float], None],
    ) -> None:
        self._client = client
        self._settings = settings
        self._load = load
        self._rate = rate
        self._take = take
        self._room = asyncio.Event()
        self._stopping = asyncio.Event()
        self._doorbell = Doorbell(client, settings, take)
        self._idle = Backoff(0.02, settings.idle_seconds, spread=0.3)
        self._trouble = Backoff(0.2, 10.0)

    def room(self) -> None:
        """Something finished: it may be time to ask again."""
        self._room.set()

    def stop(self) -> None:
        """Ask no more. A question under way is still heard out, since its jobs are ours."""
        self._stopping.set()
        self._room.set()
        self._doorbell.interrupt()

    async def run(self) -> None:
        """Until stopped, or, where so told, until the queue is empty.

        Raises SpooledError where asking again is no use (wrong key, queue not allowed).
        """
        try:
            await self._run()
        finally:
            await self._doorbell.close()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            self._room.clear()
            asked = how_many(self._load(), self._settings.concurrency, self._rate())
            if asked == 0:
                await self._room.wait()
                continue
            got = await self._ask(asked)
            if got is None:
                continue
            if got:
                self._idle.reset()
            if got == 0 and self._settings.stop_when_empty and self._load() == Load(0, 0):
                return
            if got == asked or self._stopping.is_set():
                continue
            if got == 0 and not self._settings.stop_when_empty:
                if await self._doorbell.wait(self._idle.next()):
                    self._idle.reset()
            else:
                await self._pause(self._idle.next())

    async def _ask(self, asked: int) -> int | None:
        """How many jobs came; None where the server did not answer."""
        # The lease counts from before the call: earlier than for the server, never later.
        claimed_at = time.monotonic()
        try:
            jobs = await self._client.dequeue(
                self._settings.queue_name,
                self._settings.worker_id,
                batch_size=asked,
                lease_seconds=self._settings.lease_seconds,
            )
        except SpooledError as error:
            if not is_passing(error):
                raise
            pause = self._trouble.next()
            if isinstance(error, RateLimitError):
                pause = max(pause, error.retry_after)
            logger.warning("no jobs from the server, asking again in %.1f s: %s", pause, error)
            await self._pause(pause)
            return None
        self._trouble.reset()
        for job in jobs:
            self._take(job, claimed_at)
        return len(jobs)

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless told to stop."""
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except asyncio.TimeoutError:
            return
