"""Rows on their way: compressed where that pays, and no faster than a plain server takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from spooled_pipelines.batch.flow_control import AdaptiveLimit
from spooled_pipelines.batch.staging import chunks
from spooled_pipelines.rpc.aio import connection as aio_connection
from spooled_pipelines.rpc.channel import compression_pays
from spooled_pipelines.rpc.sync import connection as sync_connection
from spooled_pipelines.server.core.batches.records import Chunk, ChunkStored
from spooled_pipelines.server.store.sqlite.store import SqliteStore
from tests.support.proxy import Proxy
from tests.support.server_process import ServerProcess
from tests.support.server_thread import ServerThread

TABLE = pa.table({"n": range(3_000), "carrier": ["United Airlines"] * 3_000})


def test_compression_pays_on_a_long_way_alone() -> None:
    assert compression_pays(is_local=False, round_trip=0.02)
    assert not compression_pays(is_local=False, round_trip=0.0005)
    assert not compression_pays(is_local=False, round_trip=None)
    assert not compression_pays(is_local=True, round_trip=0.02)


@pytest.mark.parametrize("compressed", [False, True])
def test_compressed_rows_are_the_same_rows_in_a_third_of_the_bytes(
    open_door: Callable[..., Any],
    server: ServerProcess,
    queue: str,
    monkeypatch: pytest.MonkeyPatch,
    compressed: bool,
) -> None:
    for side in (aio_connection, sync_connection):
        monkeypatch.setattr(side, "compression_pays", lambda **_: compressed)
    with Proxy(server.address) as proxy:
        door = open_door(SimpleNamespace(address=proxy.address, api_key=server.api_key))
        size = door.plan_batch(TABLE, queue).bytes
        before = proxy.sent
        assert door.enqueue_batch(TABLE, queue).created == 3_000
        sent = proxy.sent - before
    assert (sent < size / 3) == compressed
    assert open_door(server).enqueue_batch(TABLE, queue).duplicates == 3_000


def test_a_plain_server_s_rate_is_kept_to(
    open_door: Callable[..., Any], queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ServerThread(tmp_path, rate_limit=60, batch_extension=False) as server:
        pauses: list[float] = []
        refused = AdaptiveLimit.refused

        def noted(limit: AdaptiveLimit, retry_after: float = 0.0) -> None:
            refused(limit, retry_after)
            pauses.append(limit.wait())
            # The server's second is over when it has refused a call, however long it took us.
            server.advance(1)

        monkeypatch.setattr(AdaptiveLimit, "refused", noted)
        # A burst of 120 goes through, and the next call does not.
        batch = open_door(server).enqueue_batch(TABLE.slice(0, 180), queue)
        assert batch.created + batch.duplicates == 180
        assert batch.ledger["row"].to_pylist() == list(range(180))
        assert pauses
        assert all(pause > 0 for pause in pauses)


def test_a_server_has_as_many_chunks_as_it_stores_at_once_from_the_start(
    open_door: Callable[..., Any], queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers keep the chunks' order: with fewer on their way, those stored wait for a slow one."""
    monkeypatch.setattr(chunks, "CHUNK_TARGET_BYTES", 16 << 10)
    store, there, all_there = SqliteStore.add_chunk, set[int](), asyncio.Event()

    async def hold(self: SqliteStore, organization: str, chunk: Chunk) -> ChunkStored:
        there.add(chunk.number)
        if there == set(range(8)):
            all_there.set()
        await asyncio.wait_for(all_there.wait(), 30)
        return await store(self, organization, chunk)

    monkeypatch.setattr(SqliteStore, "add_chunk", hold)
    with ServerThread(tmp_path) as server:
        assert open_door(server).enqueue_batch(TABLE, queue).created == 3_000
    assert len(there) > 8
