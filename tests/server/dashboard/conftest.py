"""A server with its page, and browsers that are no more than an HTTP client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.paged_wire import PagedWire


@pytest.fixture
async def wire(tmp_path: Path, store_url: str) -> AsyncIterator[PagedWire]:
    """Over each kind of store, with a clock that the test moves."""
    async with PagedWire(tmp_path, store=store_url) as wire:
        yield wire


@pytest.fixture
async def paged(tmp_path: Path) -> AsyncIterator[PagedWire]:
    """The same over SQLite alone, for what the store has no part in."""
    async with PagedWire(tmp_path) as wire:
        yield wire
