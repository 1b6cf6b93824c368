"""A database that goes silent, or a channel that goes deaf: noticed in seconds, and said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.runtime.lifecycle import LoopMonitor
from spooled_pipelines.server.store.postgres.connections import database as connections
from spooled_pipelines.server.store.postgres.connections import watchdog
from spooled_pipelines.server.store.postgres.connections.database import borrowed
from spooled_pipelines.server.store.postgres.transactions import listener
from tests.support.manual_clock import ManualClock
from tests.support.postgres import Cluster
from tests.support.proxy import Proxy
from tests.support.replica import Replica
from tests.support.store_kit import ORGANIZATION, refused
from tests.support.waiting import aeventually

QUEUE = (ORGANIZATION, "q")
# What takes seconds in life takes tenths of them here.
_QUICK = 0.2
_HEARD_SECONDS = 30.0


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (watchdog, connections):
        monkeypatch.setattr(module, "PATIENCE_SECONDS", _QUICK)
    monkeypatch.setattr(watchdog, "_PROBE_SECONDS", 5 * _QUICK)
    monkeypatch.setattr(connections, "_CONNECT_SECONDS", 2)
    monkeypatch.setattr(listener, "_BEAT_SECONDS", _QUICK)
    monkeypatch.setattr(listener, "_DEAF_SECONDS", 3 * _QUICK)


@pytest.fixture
def proxy(database: str) -> Iterator[Proxy]:
    """Between a server and its database."""
    with Proxy(f"unix:{conninfo_to_dict(database)['host']}/.s.PGSQL.5432") as proxy:
        yield proxy


class Behind(Replica):
    """A store behind the proxy, with what its monitor says."""

    def __init__(self, database: str, proxy: Proxy) -> None:
        name = conninfo_to_dict(database)["dbname"]
        super().__init__(f"postgresql://postgres:@{proxy.address}/{name}", ManualClock())
        self.monitor = LoopMonitor()

    async def open(self) -> None:
        self.store = self.make(self.clock)
        await self.store.open(self._note, self.monitor)


@pytest.fixture
async def behind(database: str, proxy: Proxy) -> AsyncIterator[Behind]:
    kit = Behind(database, proxy)
    await kit.open()
    yield kit
    await kit.store.close()


async def test_calls_go_on_over_new_connections_when_the_old_ones_go_silent(
    behind: Behind, proxy: Proxy
) -> None:
    await behind.enqueue()
    job = await behind.claim_one(seconds=5)
    proxy.silence()
    behind.clock.advance(5)
    claims = [asyncio.ensure_future(behind.claim()) for _ in range(3)]
    await behind.store.sweep()
    claimed = [one for claim in claims for one in await claim] or await behind.claim()
    assert [one.job_id for one in claimed] == [job.job_id]


async def test_a_database_that_is_cut_off_is_away_at_once_and_back_when_it_is_back(
    behind: Behind, proxy: Proxy
) -> None:
    await behind.enqueue()
    proxy.hold()
    with refused("UNAVAILABLE", "is away"):
        await behind.enqueue()
    await aeventually(lambda: "PostgreSQL listener" in behind.monitor.failing)
    assert behind.changes.everything
    for call in (behind.claim(), behind.store.sweep(), behind.queue_counts()):
        with refused("UNAVAILABLE"):
            await call
    proxy.release()
    await aeventually(lambda: not behind.monitor.failing)
    assert (await behind.claim_one()).job_id


async def test_a_store_that_is_cut_off_stops(database: str, proxy: Proxy) -> None:
    kit = Behind(database, proxy)
    await kit.open()
    proxy.hold()
    calls = [asyncio.ensure_future(kit.enqueue()) for _ in range(3)]
    await asyncio.sleep(0)
    await kit.store.close()
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, RefusedError)


async def test_what_the_database_works_on_is_waited_for(behind: Behind, database: str) -> None:
    await behind.enqueue()
    job = await behind.claim_one()
    async with await psycopg.AsyncConnection.connect(database) as other:
        await other.execute("SELECT FROM spooled.jobs FOR UPDATE")
        completing = asyncio.ensure_future(behind.complete(job))
        done, _ = await asyncio.wait([completing], timeout=5 * _QUICK)
        assert not done
        await other.rollback()
    await completing
    assert await behind.queue_counts() == {"completed": 1}


@pytest.mark.parametrize("payload", ["hello", "{}", "[1, 2]", '["a", {"q": 1}]', "", "7"])
async def test_what_anybody_says_on_the_channel_makes_nobody_deaf(
    behind: Behind, database: str, payload: str
) -> None:
    context = cast("Any", behind.store).context
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as other:
        await other.execute("SELECT pg_notify(%s, %s)", (context.channel, payload))
    await behind.hears(lambda changes: changes.everything, _HEARD_SECONDS)
    assert not behind.monitor.failures["PostgreSQL listener"]


async def test_a_channel_that_goes_deaf_is_listened_to_again(
    behind: Behind, database: str, proxy: Proxy
) -> None:
    there = Replica(database, behind.clock)
    await there.open()
    proxy.silence()
    behind.changed()
    await there.enqueue()
    await behind.hears(lambda changes: changes.everything, _HEARD_SECONDS)
    await aeventually(lambda: not behind.monitor.failing)
    behind.changed()
    await there.enqueue()
    await behind.hears(lambda changes: QUEUE in changes.ready_queues, _HEARD_SECONDS)
    await there.store.close()


async def test_everyone_looks_now_and_then_whatever_is_heard(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_LOOK_SECONDS", _QUICK)
    kit = Replica(database, ManualClock())
    await kit.open()
    kit.changed()
    await kit.hears(lambda changes: changes.everything, _HEARD_SECONDS)
    await kit.store.close()


@pytest.mark.parametrize("state", ["53100", "53200", "55P03", "58030", "57014", "40001"])
async def test_what_may_be_done_later_is_unavailable(behind: Behind, state: str) -> None:
    pool = cast("Any", behind.store).context.pool
    with refused("UNAVAILABLE"):
        async with borrowed(pool) as connection:
            raises = f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$"
            await connection.execute(raises.encode())
    assert await behind.queue_counts() == {}


async def test_what_the_database_has_for_others_does_not_count_for_us(cluster: Cluster) -> None:
    url = cluster.database()
    name = conninfo_to_dict(url)["dbname"]
    for setting in ("default_transaction_isolation = 'serializable'", "lock_timeout = '1h'"):
        cluster.execute(f"ALTER DATABASE {name} SET {setting}")
    kit = Replica(url, ManualClock())
    await kit.open()
    async with borrowed(cast("Any", kit.store).context.pool) as connection:
        for setting, value in (
            ("transaction_isolation", "read committed"),
            ("lock_timeout", "10s"),
        ):
            cursor = await connection.execute(f"SHOW {setting}".encode())
            assert await cursor.fetchone() == (value,)
    await kit.store.close()
