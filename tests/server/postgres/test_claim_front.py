"""Claims pass over dead rows that a transaction keeps, and miss nothing that comes before."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from spooled_pipelines.server.core.jobs.settlements import Failure
from spooled_pipelines.server.core.jobs.turns import QUANTUM
from spooled_pipelines.server.store.postgres.connections.database import configure
from spooled_pipelines.server.store.postgres.queries import SQL
from spooled_pipelines.server.store.postgres.transactions import claim_front
from spooled_pipelines.server.store.postgres.transactions.claim_front import ClaimFront, Ranges
from spooled_pipelines.server.store.requests import BatchSelector
from tests.support.replica import Replica
from tests.support.store_kit import ORGANIZATION, give_back, holder, settle_one

Replicas = Callable[..., Awaitable[list[Replica]]]
_VALUES: dict[str, Any] = {
    "limit": 10,
    "worker": "w",
    "now": 10**12,
    "expiry": 2 * 10**12,
    "budget": 10**6,
    "lease": None,
    "counted": False,
}


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every claim from the start takes long, and is trusted for the whole test."""
    monkeypatch.setattr(claim_front, "_QUICK_SECONDS", -1.0)
    monkeypatch.setattr(claim_front, "_QUICK_JOB_SECONDS", 0.0)
    monkeypatch.setattr(claim_front, "_SHARE", 10**9)
    monkeypatch.setattr(claim_front, "_SECONDS_MAX", 600.0)


@pytest.mark.usefixtures("slow")
async def test_what_comes_in_another_priority_keeps_its_order(replicas: Replicas) -> None:
    (server,) = await replicas(1)
    ids = [await server.enqueue() for _ in range(4)]
    assert [job.job_id for job in await server.claim(2)] == ids[:2]
    high = [await server.enqueue(priority=5) for _ in range(3)]
    low = await server.enqueue(priority=-5)
    assert [job.job_id for job in await server.claim(2)] == high[:2]
    between = await server.enqueue(priority=3)
    assert [job.job_id for job in await server.claim(5)] == [high[2], between, *ids[2:], low]
    assert await server.claim(1) == []


@pytest.mark.usefixtures("slow")
async def test_a_job_that_is_given_back_is_the_next(replicas: Replicas) -> None:
    (server,) = await replicas(1)
    ids = [await server.enqueue() for _ in range(4)]
    first, _ = await server.claim(2)
    await give_back(server.store, ORGANIZATION, [holder(first)])
    assert [job.job_id for job in await server.claim(2)] == [ids[0], ids[2]]


@pytest.mark.usefixtures("slow")
async def test_what_another_server_gives_back_is_found_at_the_end(replicas: Replicas) -> None:
    here, there = await replicas(2)
    ids = [await here.enqueue() for _ in range(2 * QUANTUM + 3)]
    first, *_ = await here.claim(2 * QUANTUM + 1)
    await give_back(there.store, ORGANIZATION, [holder(first)])
    found = [job.job_id for _ in range(3) for job in await here.claim(1)]
    assert found == [*ids[-2:], ids[0]]


@pytest.mark.usefixtures("slow")
async def test_what_is_retried_in_the_round_that_runs_is_not_passed_over(
    replicas: Replicas,
) -> None:
    (server,) = await replicas(1)
    await server.open_batch()
    await server.add("b", *map(str, range(6)))
    for job in await server.claim(3):
        await settle_one(server.store, ORGANIZATION, holder(job), Failure("broken", False))
    await server.store.retry(ORGANIZATION, BatchSelector("b"), "")
    await server.store.sweep()
    assert len(await server.claim(10)) == 6


@pytest.mark.usefixtures("slow")
async def test_a_claim_begins_behind_the_dead_rows(database: str, replicas: Replicas) -> None:
    (server,) = await replicas(1)
    await server.open_batch()
    await server.add("b", *map(str, range(3_000)))
    async with (
        await psycopg.AsyncConnection.connect(database, autocommit=True) as connection,
        await psycopg.AsyncConnection.connect(database) as other,
    ):
        await other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await other.execute("SELECT 1")
        for _ in range(29):
            assert len(await server.claim(100)) == 100
        await configure(connection)
        last = await connection.execute(
            "SELECT queue, round FROM jobs WHERE status = 3 ORDER BY seq DESC LIMIT 1"
        )
        ((queue, place),) = await last.fetchall()
        behind = await _visited(connection, queue, Ranges([0], [0], [place]))
        whole = await _visited(connection, queue, None)
    assert whole > 2_900
    assert behind < whole / 10


async def _visited(
    connection: psycopg.AsyncConnection[Any], queue: int, ranges: Ranges | None
) -> int:
    """Return how many blocks it takes to claim ten jobs, which are not claimed after all."""
    name = "claim_jobs" if ranges is None else "claim_jobs_behind"
    values = {**_VALUES, **(ranges._asdict() if ranges else {}), "queue": queue}
    await connection.execute("BEGIN")
    explain = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + SQL[name]
    ((found,),) = await (await connection.execute(explain, values)).fetchall()
    await connection.execute("ROLLBACK")
    plan = found if isinstance(found, list) else json.loads(found)
    return int(plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"])


def test_a_quick_claim_leaves_nothing_to_begin_at() -> None:
    front = ClaimFront()
    row = (1, None, False, 0, 7)
    front.claimed(front.version, [row], 0.001)
    assert front.ranges() is None
    front.claimed(front.version, [row], 1.0)
    assert front.ranges() == ([1, 0, -(2**15)], [2**15 - 1, 0, -1], [-1, 7, -1])
    version = front.version
    front.forget()
    # It began before what made the front forget.
    front.claimed(version, [row], 1.0)
    assert front.ranges() is None
