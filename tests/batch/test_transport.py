"""Rows on their way: compressed where that pays, and no faster than a plain server takes them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from spooled_pipelines.batch.flow_control import AdaptiveLimit
from spooled_pipelines.rpc.aio import connection as aio_connection
from spooled_pipelines.rpc.channel import compression_pays
from spooled_pipelines.rpc.sync import connection as sync_connection
from tests.support.proxy import Proxy
from tests.support.server_process import ServerProcess

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
    open_door: Callable[..., Any],
    start_server: Callable[..., ServerProcess],
    queue: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits: list[tuple[int, int]] = []
    refused = AdaptiveLimit.refused

    def noted(window: AdaptiveLimit, retry_after: float = 0.0) -> None:
        before = window.limit
        refused(window, retry_after)
        limits.append((before, window.limit))

    monkeypatch.setattr(AdaptiveLimit, "refused", noted)
    door = open_door(start_server("--rate-limit", "60", "--no-batch-extension"))
    batch = door.enqueue_batch(TABLE.slice(0, 180), queue)
    assert batch.created + batch.duplicates == 180
    assert batch.ledger["row"].to_pylist() == list(range(180))
    assert any(after < before for before, after in limits)
