"""Whatever happens, in whatever order: SQLite does what a plain model does."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from spooled_pipelines.server.store.open import open_store
from tests.support.proof.model import MAX_DELIVERIES
from tests.support.proof.modelling import EXAMPLES, EXAMPLES_OF_A_LONG_RUN, check, seed_of_today
from tests.support.store_kit import StoreKit

_MEMORY = Path("/dev/shm")


class Files:
    """Each store a file of its own."""

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._folder = folder / "store"
        self.loop = loop

    async def take(self) -> StoreKit:
        url = f"sqlite:///{self._folder}/jobs.db"
        kit = StoreKit(lambda clock: open_store(url, clock, max_deliveries=MAX_DELIVERIES))
        await kit.open()
        return kit

    async def give_back(self, kit: StoreKit) -> None:
        await kit.store.close()
        shutil.rmtree(self._folder)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Files]:
    """In memory where there is room: what is durable is for other tests to say."""
    place = _MEMORY if _MEMORY.is_dir() else tmp_path
    folder = tempfile.TemporaryDirectory(dir=place)
    with folder as path, closing(asyncio.new_event_loop()) as loop:
        yield Files(Path(path), loop)


@pytest.mark.timeout(600)
def test_sqlite_and_the_model_never_differ(stores: Files) -> None:
    check(stores, EXAMPLES, seed_of_today())


@pytest.mark.long
@pytest.mark.timeout(24 * 3600)
def test_sqlite_and_the_model_never_differ_however_long(
    stores: Files, size: Callable[[str, int], int]
) -> None:
    check(stores, size("examples", EXAMPLES_OF_A_LONG_RUN), size("seed", 1_000_000))
