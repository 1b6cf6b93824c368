"""The worker's registration with the server: made, kept alive by heartbeats, and ended."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.errors import NotFoundError, SpooledError
from spooled_pipelines.wire.limits import WORKER_ID_MAX
from spooled_pipelines.worker.clock import Clock
from spooled_pipelines.worker.log import logger
from spooled_pipelines.worker.retry import is_transient
from spooled_pipelines.worker.settings import WorkerSettings

_DEREGISTER_SECONDS = 5.0
# Leaves room for a suffix such as ".1000".
_ID_MAX = WORKER_ID_MAX - 6


class Registration:
    """Registers the worker, sends heartbeats, and calls `drain` when the server asks for it."""

    def __init__(
        self,
        client: AsyncSpooledClient,
        clock: Clock,
        settings: WorkerSettings,
        *,
        running: Callable[[], int],
        drain: Callable[[], None],
    ) -> None:
        self._client = client
        self._clock = clock
        self._settings = settings
        self._running = running
        self._drain = drain
        self._heartbeat_seconds = 10
        # A registration is for one queue: each further queue has one of its own.
        first, *others = (share.name for share in settings.queues)
        self._registrations = {first: settings.worker_id}
        for number, name in enumerate(others, 2):
            self._registrations[name] = f"{settings.worker_id[:_ID_MAX]}.{number}"

    async def register(self) -> None:
        """Register for every queue.

        Raises:
            SpooledError: the server is not there, or does not accept this worker.
        """
        from spooled_pipelines import __version__

        for queue_name, worker_id in self._registrations.items():
            registration = await self._client.register_worker(
                queue_name,
                worker_id=worker_id,
                hostname=socket.gethostname(),
                max_concurrency=self._settings.slots,
                version=__version__,
            )
            self._heartbeat_seconds = max(1, registration.heartbeat_seconds)

    async def heartbeat_forever(self) -> None:
        """Send heartbeats until cancelled.

        Raises:
            SpooledError: trying again would not help.
        """
        while True:
            await self._clock.sleep(self._heartbeat_seconds)
            try:
                answers = [
                    await self._client.heartbeat(worker_id, current_jobs=self._running())
                    for worker_id in self._registrations.values()
                ]
                if not all(answer.acknowledged for answer in answers):
                    await self.register()
            except NotFoundError:
                # A server with a new store does not know this worker.
                await self.register()
                continue
            except SpooledError as error:
                if not is_transient(error):
                    raise
                logger.warning("heartbeat not delivered: %s", error)
                continue
            if any(answer.should_drain for answer in answers):
                logger.info("the server asks this worker to drain: stopping")
                self._drain()

    async def deregister(self) -> None:
        """Deregister, if the server is there to hear it."""
        try:
            await asyncio.wait_for(self._deregister(), _DEREGISTER_SECONDS)
        except (SpooledError, asyncio.TimeoutError) as error:
            logger.warning("not deregistered, the server will notice by itself: %s", error)

    async def _deregister(self) -> None:
        for worker_id in self._registrations.values():
            await self._client.deregister_worker(worker_id)
