"""A server over real gRPC whose clock the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.postgres import empty_store
from tests.support.wire import Wire

# The services see a store's interface alone, and the suite of the stores holds both to it: so six
# files run over both in each run, and the others over PostgreSQL in the long one.
OVER_BOTH = (
    "test_audit",
    "test_batches",
    "test_jobs",
    "test_renamed_queues",
    "test_streams",
    "test_tenancy",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marks = metafunc.definition.iter_markers("parametrize")
    told = any("store_url" in mark.args[0] for mark in marks)
    if "store_url" in metafunc.fixturenames and not told:
        both = metafunc.definition.path.stem in OVER_BOTH
        postgresql = pytest.param("postgresql", marks=() if both else pytest.mark.long)
        metafunc.parametrize("store_url", ["sqlite", postgresql], indirect=True)


@pytest.fixture
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty store of each kind."""
    with empty_store(request.param, tmp_path) as url:
        yield url


@pytest.fixture
async def wire(tmp_path: Path, store_url: str) -> AsyncIterator[Wire]:
    """Over each kind of store. After the test, every counter equals a recount."""
    async with Wire(tmp_path, store=store_url) as wire:
        yield wire
        assert await wire.store.recount() == []
