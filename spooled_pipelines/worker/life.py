"""The worker's standing with the server: registered, heard of, signed off."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.errors import NotFoundError, SpooledError
from spooled_pipelines.wire.limits import WORKER_ID_MAX
from spooled_pipelines.worker.faults import is_passing
from spooled_pipelines.worker.log import logger
from spooled_pipelines.worker.settings import WorkerSettings

_SIGN_OFF_SECONDS = 5.0
_ID_MAX = WORKER_ID_MAX - 6


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
        # A registration is for one queue: for each further one there is another.
        first, *others = (share.name for share in settings.queues)
        self._standings = {first: settings.worker_id}
        for number, name in enumerate(others, 2):
            self._standings[name] = f"{settings.worker_id[:_ID_MAX]}.{number}"

    async def register(self) -> None:
        """Raises SpooledError where the server is not there or does not want this worker."""
        from spooled_pipelines import __version__

        for queue_name, worker_id in self._standings.items():
            registration = await self._client.register_worker(
                queue_name,
                worker_id=worker_id,
                hostname=socket.gethostname(),
                max_concurrency=self._settings.slots,
                version=__version__,
            )
            self._heartbeat_seconds = max(1, registration.heartbeat_seconds)

    async def beat(self) -> None:
        """Heartbeats until cancelled. Raises what trying again does not cure."""
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            try:
                answers = [
                    await self._client.heartbeat(worker_id, current_jobs=self._running())
                    for worker_id in self._standings.values()
                ]
                if not all(answer.acknowledged for answer in answers):
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
            if any(answer.should_drain for answer in answers):
                logger.info("the server asks for no more work: stopping")
                self._drain()

    async def sign_off(self) -> None:
        """Deregister, if the server is there to hear it."""
        try:
            await asyncio.wait_for(self._deregister(), _SIGN_OFF_SECONDS)
        except (SpooledError, asyncio.TimeoutError) as error:
            logger.warning("not deregistered, the server will notice by itself: %s", error)

    async def _deregister(self) -> None:
        for worker_id in self._standings.values():
            await self._client.deregister_worker(worker_id)
