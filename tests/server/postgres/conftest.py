"""Several servers' stores on one database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.support.manual_clock import ManualClock
from tests.support.postgres import Cluster
from tests.support.replica import Replica


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """The URL of an empty store."""
    with cluster.lent() as url:
        yield url


@pytest.fixture
async def replicas(database: str) -> AsyncIterator[Callable[..., Awaitable[list[Replica]]]]:
    """Opens stores on one database, with one clock; at the end every counter equals a recount."""
    async with AsyncExitStack() as stack:

        async def open_some(count: int, **options: Any) -> list[Replica]:
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
