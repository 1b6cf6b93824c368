"""Whatever happens, in whatever order: PostgreSQL does what a plain model does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, cast

import pytest

from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.postgres.connections.id_cache import IdCache
from tests.support.postgres import Cluster
from tests.support.proof.model import MAX_DELIVERIES
from tests.support.proof.modelling import (
    EXAMPLES_OF_A_LONG_RUN,
    EXAMPLES_OF_POSTGRESQL,
    check,
    seed_of_today,
)
from tests.support.store_kit import StoreKit


class Emptied:
    """One database and one store, emptied between: new connections cost most of the time."""

    def __init__(self, cluster: Cluster, loop: asyncio.AbstractEventLoop) -> None:
        self._cluster, self._url = cluster, cluster.database()
        self._kit = StoreKit(
            lambda clock: open_store(self._url, clock, max_deliveries=MAX_DELIVERIES)
        )
        self.loop = loop
        loop.run_until_complete(self._kit.open())

    async def take(self) -> StoreKit:
        self._cluster.emptied(self._url)
        cast("Any", self._kit.store).context.names = IdCache()
        self._kit.changed()
        return self._kit

    async def give_back(self, kit: StoreKit) -> None:
        """It stays open."""

    def close(self) -> None:
        self.loop.run_until_complete(self._kit.store.close())


@pytest.fixture
def stores(cluster: Cluster) -> Iterator[Emptied]:
    with closing(asyncio.new_event_loop()) as loop, closing(Emptied(cluster, loop)) as stores:
        yield stores


@pytest.mark.timeout(900)
def test_postgresql_and_the_model_never_differ(stores: Emptied) -> None:
    check(stores, EXAMPLES_OF_POSTGRESQL, seed_of_today())


@pytest.mark.long
@pytest.mark.timeout(24 * 3600)
def test_postgresql_and_the_model_never_differ_however_long(
    stores: Emptied, size: Callable[[str, int], int]
) -> None:
    check(stores, size("examples", EXAMPLES_OF_A_LONG_RUN), size("seed", 1_000_000))
