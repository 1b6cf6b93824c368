"""Of each key so many jobs run at once, however many servers hand them out and end them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from spooled_pipelines.server.core.batch_records import BatchOpening
from spooled_pipelines.server.core.records import JobRecord
from spooled_pipelines.server.core.settlements import Completion, LeaseHolder, Settlement
from spooled_pipelines.server.core.turns import key_number
from spooled_pipelines.server.store.requests import ClaimRequest
from spooled_pipelines.wire.well_known import Struct
from tests.support.store_kit import ORGANIZATION, chunk

KEYS, MOST, ROWS = "abc", 2, 60


def key(job: JobRecord) -> str:
    return str(Struct.FromString(job.payload or b"")["name"])[0]


async def test_servers_at_the_same_time_let_no_more_of_a_key_out(replicas: Any) -> None:
    stores = [replica.store for replica in await replicas(3)]
    running: Counter[str] = Counter()
    done: set[str] = set()

    async def fill(number: int) -> None:
        batch_id = f"b{number}"
        await stores[number].open_batch(ORGANIZATION, BatchOpening(batch_id, "q", ""))
        names = [f"{KEYS[row % 3]} {number} {row}" for row in range(ROWS)]
        keys = [key_number("customer", name[0]) for name in names]
        rows = chunk(batch_id, names, limit_keys=keys, limit_per_key=MOST)
        await stores[number].add_chunk(ORGANIZATION, rows)

    async def work(number: int) -> None:
        store, worker = stores[number % 3], f"w{number}"
        while len(done) < 3 * ROWS:
            jobs = await store.claim(ORGANIZATION, ClaimRequest("q", worker, 30_000, 3))
            running.update(map(key, jobs))
            assert max(running.values(), default=0) <= MOST
            for job in jobs:
                running[key(job)] -= 1
                holder = LeaseHolder(job.job_id, worker, job.lease_id or "")
                # By any of the servers.
                settled = [Settlement(holder, Completion(None))]
                await stores[len(done) % 3].settle(ORGANIZATION, settled)
                done.add(job.job_id)

    await asyncio.gather(*(fill(number) for number in range(3)))
    await asyncio.wait_for(asyncio.gather(*(work(number) for number in range(6))), 60)
    assert len(done) == 3 * ROWS
