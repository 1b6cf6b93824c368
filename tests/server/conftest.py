"""Stores with a clock that the test moves, and servers over them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from spooled_pipelines.server.store.open import open_store
from tests.support.postgres import empty_store
from tests.support.store_kit import StoreKit


# The whole suite of `store` runs once for each of these.
@pytest.fixture(params=["postgresql", "sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty store of each kind."""
    with empty_store(request.param, tmp_path) as url:
        yield url


@pytest.fixture
async def kit(store_url: str) -> AsyncIterator[StoreKit]:
    """An empty store; whatever a test did, at its end every counter equals a recount."""
    kit = StoreKit(lambda clock: open_store(store_url, clock))
    await kit.open()
    yield kit
    assert await kit.store.recount() == []
    await kit.store.close()
