"""What was pruned is not left in the write-ahead log."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from spooled_pipelines.server.core.jobs.settlements import Completion
from spooled_pipelines.server.core.upkeep.retention import Retention
from spooled_pipelines.server.store.open import open_store
from tests.support.store_kit import ORGANIZATION, StoreKit, holder, settle_one, struct
from tests.support.waiting import eventually

_MARKER = "somebody's address"


@pytest.mark.parametrize("is_read", [False, True])
async def test_the_log_is_emptied_when_all_is_pruned(tmp_path: Path, is_read: bool) -> None:
    path = tmp_path / "jobs.db"
    log = tmp_path / "jobs.db-wal"
    kit = StoreKit(lambda clock: open_store(f"sqlite:///{path}", clock, Retention(settled=60)))
    await kit.open()
    await kit.enqueue(payload=struct(text=_MARKER))
    await settle_one(kit.store, ORGANIZATION, holder(await kit.claim_one()), Completion(None))
    assert _MARKER.encode() in log.read_bytes()
    kit.clock.advance(120)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        if is_read:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM jobs").fetchone()
        await kit.store.sweep()
        # A commit that is answered began after what came after the one before it.
        await kit.enqueue()
        if is_read:
            assert _MARKER.encode() in log.read_bytes()
            reader.execute("COMMIT")
    # It is emptied when nothing waits to be written, which is soon behind the answer to the last.
    await kit.enqueue()
    await asyncio.to_thread(eventually, lambda: _MARKER.encode() not in log.read_bytes())
    await kit.store.close()
