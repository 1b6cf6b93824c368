"""The worker's standing with the server: registered, heard of, signed off."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.errors import NotFoundError, SpooledError
from spooled_pipelines.worker.faults import is_passing
from spooled_pipelines.worker.log import logger
from spooled_pipelines.worker.settings import WorkerSettings

_SIGN_OFF_SECONDS = 5.0


class Life:
    """Registers, sends heartbeats, and tells `drain` when the server asks for no more work."""

    def __init__(
        self,
        client: AsyncSpooledClient,
        settings: WorkerSettings,
        *,
        running: Callable[[], int],
        drain: Callable[[], None],
    ) -> None:
        self._client = client
        self._settings = settings
        self._running = running
        self._drain = drain
        self._heartbeat_seconds = 10

    async def register(self) -> None:
        """Raises SpooledError where the server is not there or does not want this worker."""
        from spooled_pipelines import __version__

        registration = await self._client.register_worker(
            self._settings.queue_name,
            worker_id=self._settings.worker_id,
            hostname=socket.gethostname(),
            max_concurrency=self._settings.concurrency,
            version=__version__,
        )
        self._heartbeat_seconds = max(1, registration.heartbeat_seconds)

    async def beat(self) -> None:
        """Heartbeats until cancelled. Raises what trying again does not cure."""
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            try:
                answer = await self._client.heartbeat(
                    self._settings.worker_id, current_jobs=self._running()
                )
                if not answer.acknowledged:
                    await self.register()
            except NotFoundError:
                # A server with a new store: it has to get to know us again.
                await self.register()
                continue
            except SpooledError as error:
                if not is_passing(error):
                    raise
                logger.warning("heartbeat not delivered: %s", error)
                continue
            if answer.should_drain:
                logger.info("the server asks for no more work: stopping")
                self._drain()

    async def sign_off(self) -> None:
        """Deregister, if the server is there to hear it."""
        try:
            await asyncio.wait_for(
                self._client.deregister_worker(self._settings.worker_id), _SIGN_OFF_SECONDS
            )
        except (SpooledError, asyncio.TimeoutError) as error:
            logger.warning("not deregistered, the server will notice by itself: %s", error)
