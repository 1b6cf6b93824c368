"""A server over real gRPC whose clock the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.wire import Wire


@pytest.fixture
async def wire(tmp_path: Path, store_url: str) -> AsyncIterator[Wire]:
    """Over each kind of store. After the test, every counter equals a recount."""
    async with Wire(tmp_path, store=store_url) as wire:
        yield wire
        assert await wire.store.recount() == []
