"""Of each key so many jobs run at once, however many servers hand them out and end them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import psycopg
import pytest

from spooled_pipelines.server.core.batches.records import BatchOpening
from spooled_pipelines.server.core.jobs.records import JobRecord
from spooled_pipelines.server.core.jobs.settlements import Completion, Settlement
from spooled_pipelines.server.core.jobs.turns import key_number
from spooled_pipelines.server.store.requests import ClaimRequest
from spooled_pipelines.wire.well_known import Struct
from tests.support.replica import Replica
from tests.support.store_kit import ORGANIZATION, chunk, holder

KEYS, MOST, ROWS = "abc", 2, 60


async def fill(replica: Replica, batch_id: str, rows: int, most: int = MOST) -> None:
    """A batch with so many jobs, whose keys take turns."""
    await replica.store.open_batch(ORGANIZATION, BatchOpening(batch_id, "q", ""))
    names = [f"{KEYS[row % 3]} {batch_id} {row}" for row in range(rows)]
    keys = [key_number("customer", name[0]) for name in names]
    limited = chunk(batch_id, names, limit_keys=keys, limit_per_key=most)
    await replica.store.add_chunk(ORGANIZATION, limited)


def key(job: JobRecord) -> str:
    return str(Struct.FromString(job.payload or b"")["name"])[0]


async def test_servers_at_the_same_time_let_no_more_of_a_key_out(replicas: Any) -> None:
    servers = await replicas(3)
    stores = [replica.store for replica in servers]
    running: Counter[str] = Counter()
    done: set[str] = set()

    async def work(number: int) -> None:
        store, worker = stores[number % 3], f"w{number}"
        while len(done) < 3 * ROWS:
            jobs = await store.claim(ORGANIZATION, ClaimRequest("q", worker, 30_000, 3))
            running.update(map(key, jobs))
            assert max(running.values(), default=0) <= MOST
            for job in jobs:
                running[key(job)] -= 1
                # By any of the servers.
                settled = [Settlement(holder(job), Completion(None))]
                await stores[len(done) % 3].settle(ORGANIZATION, settled)
                done.add(job.job_id)

    await asyncio.gather(*(fill(server, f"b{at}", ROWS) for at, server in enumerate(servers)))
    await asyncio.wait_for(asyncio.gather(*(work(number) for number in range(6))), 60)
    assert len(done) == 3 * ROWS


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_held_job_that_was_passed_over_is_let_out_by_a_sweep(
    replicas: Any, database: str, restarts: bool
) -> None:
    (server,) = await replicas(1)
    await fill(server, "b", 4, most=1)
    claim = ClaimRequest("q", "w", 30_000, 10)
    jobs = await server.store.claim(ORGANIZATION, claim)
    assert "".join(sorted(map(key, jobs))) == KEYS
    async with await psycopg.AsyncConnection.connect(database) as other:
        # Somebody else's transaction that has nothing to do with the key.
        await other.execute(
            "SELECT FROM spooled.jobs WHERE due_at = 4611686018427387904 FOR UPDATE"
        )
        for job in jobs:
            settled = [Settlement(holder(job), Completion(None))]
            await server.store.settle(ORGANIZATION, settled)
        await server.store.sweep()
    assert await server.store.claim(ORGANIZATION, claim) == []
    if restarts:
        (server,) = await replicas(1)
    else:
        moment = await server.store.sweep()
        assert moment is not None
        server.clock.advance(5)
    await server.store.sweep()
    assert [key(job) for job in await server.store.claim(ORGANIZATION, claim)] == ["a"]
