"""A claim that takes long gets no job whose former lease ended after it began."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from spooled_pipelines.server.store.postgres.store import PostgresStore
from spooled_pipelines.server.store.postgres.transactions import context
from tests.support.replica import Replica
from tests.support.waiting import aeventually

Replicas = Callable[..., Awaitable[list[Replica]]]


async def test_a_lease_that_ends_while_a_claim_is_under_way_is_not_that_claim_s(
    replicas: Replicas, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the job would have two leases at one time: that of the claim began before its end."""
    monkeypatch.setattr(context, "_TURN_SECONDS", 0.05)
    [replica] = await replicas(1)
    assert isinstance(replica.store, PostgresStore)
    under_way = replica.store.context._claims
    await replica.enqueue()
    first = await replica.claim_one(worker="first", seconds=60)
    async with await psycopg.AsyncConnection.connect(database) as other:
        # Claims alone look into this table.
        await other.execute("LOCK TABLE spooled.queues IN ACCESS EXCLUSIVE MODE")
        late = asyncio.ensure_future(replica.claim(worker="late"))
        await aeventually(lambda: under_way)
        replica.clock.advance(100)
        await replica.store.sweep()
    assert await late == []
    await replica.store.sweep()
    second = await replica.claim_one(worker="second")
    assert (first.lease_expires_at or 0) <= (second.started_at or 0)
