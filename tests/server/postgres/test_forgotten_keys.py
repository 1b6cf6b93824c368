"""A key whose job is forgotten while the key is looked up makes a new job."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from spooled_pipelines.server.core.jobs.settlements import Completion
from spooled_pipelines.server.core.upkeep.retention import Retention
from spooled_pipelines.server.store.postgres.store import PostgresStore
from spooled_pipelines.server.store.postgres.transactions import Transaction
from spooled_pipelines.server.store.postgres.upkeep import pruning
from spooled_pipelines.server.store.requests import BatchSelector
from tests.support.manual_clock import ManualClock
from tests.support.store_kit import (
    ORGANIZATION,
    StoreKit,
    chunk,
    holder,
    new_job,
    refused,
    settle_one,
)


@pytest.mark.parametrize("by_chunk", [False, True])
async def test_the_answer_names_a_job_that_is_there(
    database: str, monkeypatch: pytest.MonkeyPatch, by_chunk: bool
) -> None:
    kit = StoreKit(lambda clock: PostgresStore(database, clock, Retention(0)))
    await kit.open()
    await kit.open_batch("b")
    again = chunk("b", ["one"])
    (key,) = again.keys
    old = await kit.enqueue(idempotency_key=key)
    await settle_one(kit.store, ORGANIZATION, holder(await kit.claim_one()), Completion(None))
    await kit.store.sweep()
    ground = cast("Any", kit.store).context
    rows = Transaction.rows
    forgotten = []

    async def rows_after_forgetting(self: Transaction, statement: str, **values: Any) -> Any:
        # Between the statement that met the key and the one that looks up its job.
        if statement in ("find_jobs_of_keys", "find_staged") and not forgotten:
            forgotten.append(await pruning.forget(ground, kit.clock.now()))
        return await rows(self, statement, **values)

    monkeypatch.setattr(Transaction, "rows", rows_after_forgetting)
    if by_chunk:
        stored = await kit.store.add_chunk(ORGANIZATION, again)
        assert not stored.duplicates
        new = kit.job_id(stored.seqs[0] if stored.seqs else stored.first or 0)
    else:
        answer = await kit.store.enqueue(ORGANIZATION, new_job(idempotency_key=key))
        assert answer.created
        new = answer.job_id
    assert forgotten
    assert new != old
    assert (await kit.job(new)).job_id == new
    assert await kit.store.recount() == []
    await kit.store.close()


async def test_two_servers_let_go_of_each_batch_once(database: str) -> None:
    clock = ManualClock()
    kits = [
        StoreKit(lambda clock: PostgresStore(database, clock, Retention(0, 0, 0, 0)), clock=clock)
        for _ in range(2)
    ]
    for kit in kits:
        await kit.open()
    first = kits[0]
    for number in range(6):
        await first.open_batch(f"b{number}")
        rows = [f"row{row}" for row in range(number * 200, number * 200 + 600)]
        await first.add(f"b{number}", *rows)
        await first.store.seal_batch(ORGANIZATION, f"b{number}")
        await first.store.cancel(ORGANIZATION, BatchSelector(f"b{number}", None))
    for _ in range(60):
        clock.advance(61)
        await asyncio.gather(*(kit.store.sweep() for kit in kits))
    assert await first.queue_counts() == {}
    assert await first.store.recount() == []
    for number in range(6):
        with refused("NOT_FOUND"):
            await first.counts(f"b{number}")
    for kit in kits:
        await kit.store.close()
