"""Several servers' stores on one database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import pytest
from pgkit import Cluster
from serverkit import StoreKit

from spooled_pipelines.server.clock import ManualClock
from spooled_pipelines.server.postgres.store import PostgresStore
from spooled_pipelines.server.wakeups import Changes

HEARD_SECONDS = 1.0


class Replica(StoreKit):
    """A store that tells what it heard, as soon as it does."""

    def __init__(self, url: str, clock: ManualClock, **options: object) -> None:
        super().__init__(lambda clock: PostgresStore(url, clock, **options), clock)
        self._heard = asyncio.Event()

    def _note(self, changes: Changes) -> None:
        super()._note(changes)
        self._heard.set()

    async def hears(
        self, condition: Callable[[Changes], object], seconds: float = HEARD_SECONDS
    ) -> None:
        """Until what was published fulfils the condition; nothing is asked for meanwhile."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not condition(self.changes):
            self._heard.clear()
            left = deadline - asyncio.get_running_loop().time()
            await asyncio.wait_for(self._heard.wait(), left)


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """The URL of an empty store."""
    with cluster.lent() as url:
        yield url


@pytest.fixture
async def replicas(database: str) -> AsyncIterator[Callable[..., Awaitable[list[Replica]]]]:
    """Opens stores on one database, with one clock; at the end every counter equals a recount."""
    async with AsyncExitStack() as stack:

        async def open_some(count: int, **options: object) -> list[Replica]:
            clock = ManualClock()
            opened = [Replica(database, clock, **options) for _ in range(count)]
            for replica in opened:
                await replica.open()
                stack.push_async_callback(replica.store.close)

            async def is_sound() -> None:
                assert await opened[0].store.recount() == []

            stack.push_async_callback(is_sound)
            return opened

        yield open_some
