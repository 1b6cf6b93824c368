"""A day's quota: counted with the jobs that are made, exactly, no matter who else makes some."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.limits.quotas import Quotas
from spooled_pipelines.server.store.open import open_store
from tests.support.store_kit import ORGANIZATION, StoreKit, chunk, new_job, refused

DAY_SECONDS = 86_400
QUOTAS = Quotas(5, {"large": 1_000, "free": None, "none": 0})


@pytest.fixture
async def kit(store_url: str) -> AsyncIterator[StoreKit]:
    """A store where every organization may make five jobs a day."""
    kit = StoreKit(lambda clock: open_store(store_url, clock, quotas=QUOTAS))
    await kit.open()
    yield kit
    assert await kit.store.recount() == []
    await kit.store.close()


async def fill(kit: StoreKit, jobs: int = 5) -> None:
    for number in range(jobs):
        await kit.enqueue(idempotency_key=f"k{number}")


async def test_the_last_job_of_the_quota_is_made_and_the_next_is_not(kit: StoreKit) -> None:
    await fill(kit)
    with pytest.raises(RefusedError) as caught:
        await kit.enqueue(idempotency_key="next")
    assert caught.value.code == "RESOURCE_EXHAUSTED"
    assert "limit reached (5/5)" in caught.value.message
    assert "not stored" in caught.value.message
    # What tells it from a rate, which is waited out.
    assert caught.value.retry_after is None
    assert await kit.queue_counts() == {"pending": 5}


async def test_a_duplicate_counts_nothing_and_is_found_beyond_the_quota(kit: StoreKit) -> None:
    first = await kit.enqueue(idempotency_key="k0")
    for _ in range(10):
        assert await kit.enqueue(idempotency_key="k0") == first
    await fill(kit)
    assert await kit.enqueue(idempotency_key="k0") == first


async def test_of_jobs_that_come_together_as_many_are_made_as_there_is_room_for(
    kit: StoreKit,
) -> None:
    calls = (
        kit.store.enqueue(ORGANIZATION, new_job(idempotency_key=f"{number:032x}"))
        for number in range(20)
    )
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refusals = [answer for answer in answers if isinstance(answer, RefusedError)]
    assert {refusal.code for refusal in refusals} == {"RESOURCE_EXHAUSTED"}
    assert (len(answers) - len(refusals), await kit.queue_counts()) == (5, {"pending": 5})


async def test_a_chunk_that_would_pass_the_quota_is_refused_whole(kit: StoreKit) -> None:
    await kit.open_batch()
    assert await kit.add("b", "a", "b", "c") == (3, [])
    with refused("RESOURCE_EXHAUSTED", "limit reached (3/5): of 3 new jobs none was stored"):
        await kit.add("b", "d", "e", "f", number=1)
    assert await kit.counts() == {"pending": 3}
    # It goes on where it was, once there is room; what came before has its old outcome.
    kit.clock.advance(DAY_SECONDS)
    assert await kit.add("b", "a", "b", "c") == (3, [])
    assert await kit.add("b", "d", "e", "f", number=1) == (3, [])
    assert await kit.counts() == {"pending": 6}


async def test_only_new_rows_of_a_chunk_count(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "a", "b", "c")
    assert await kit.add("b", "a", "b", "c", "d", "d", "e", number=1) == (2, [0, 1, 2, 4])
    # All of its rows are there already.
    assert await kit.add("b", "e", "a", number=2) == (0, [0, 1])
    with refused("RESOURCE_EXHAUSTED", "limit reached (5/5): this job was not stored"):
        await kit.add("b", "a", "f", number=3)


async def test_what_is_refused_wakes_nobody_and_seals_nothing_open(kit: StoreKit) -> None:
    await fill(kit)
    await kit.open_batch()
    await kit.store.seal_batch(ORGANIZATION, "b")
    kit.changed()
    with refused("RESOURCE_EXHAUSTED"):
        await kit.add("b", "x")
    assert not kit.changed().ready_queues
    (batch,) = await kit.store.batches(ORGANIZATION, ["b"])
    assert (batch.sealed, batch.counts.total) == (True, 0)


async def test_a_day_ends_at_midnight_of_utc(kit: StoreKit) -> None:
    kit.clock.advance(DAY_SECONDS - kit.clock.now() // 1000 % DAY_SECONDS - 60)
    await fill(kit)
    with refused("RESOURCE_EXHAUSTED", "the next day begins at 00:00 UTC, in 0 h 01 min"):
        await kit.enqueue()
    kit.clock.advance(60)
    for _ in range(5):
        await kit.enqueue()
    with refused("RESOURCE_EXHAUSTED", "(5/5)"):
        await kit.enqueue()


async def test_settling_and_pruning_give_nothing_back(kit: StoreKit) -> None:
    await fill(kit)
    for job in await kit.claim(5):
        await kit.complete(job)
    with refused("RESOURCE_EXHAUSTED"):
        await kit.enqueue()


async def test_a_restart_keeps_the_count(kit: StoreKit) -> None:
    await fill(kit, 4)
    await kit.reopen()
    await kit.enqueue()
    with refused("RESOURCE_EXHAUSTED"):
        await kit.enqueue()


async def test_each_organization_has_its_own_quota(kit: StoreKit) -> None:
    await fill(kit)
    for organization in ("large", "free", "other"):
        for _ in range(5):
            await kit.store.enqueue(organization, new_job())
    with refused("RESOURCE_EXHAUSTED"):
        await kit.store.enqueue("other", new_job())
    with refused("RESOURCE_EXHAUSTED", "(0/0)"):
        await kit.store.enqueue("none", new_job())
    for organization in ("large", "free"):
        await kit.store.enqueue(organization, new_job())


async def test_of_many_at_once_as_many_are_made_as_there_is_room_for(kit: StoreKit) -> None:
    """Also where they share a commit with each other, with other organizations, and with chunks."""
    await kit.open_batch()
    mine = [kit.store.enqueue(ORGANIZATION, new_job()) for _ in range(20)]
    # The job of these two is made or refused, for both alike.
    twins = [kit.store.enqueue(ORGANIZATION, new_job(idempotency_key="twin")) for _ in range(2)]
    chunks = [kit.store.add_chunk(ORGANIZATION, chunk("b", [f"r{n}"], number=n)) for n in range(10)]
    others = [kit.store.enqueue("free", new_job()) for _ in range(20)]
    ended = await asyncio.gather(*others, *mine, *twins, *chunks, return_exceptions=True)
    refusals = [outcome for outcome in ended if isinstance(outcome, BaseException)]
    assert {str(refusal)[:24] for refusal in refusals} == {"daily job limit reached "}
    assert not any(isinstance(outcome, BaseException) for outcome in ended[:20])
    first, second = ended[40:42]
    assert type(first) is type(second)
    assert sum((await kit.queue_counts()).values()) == 5
    with refused("RESOURCE_EXHAUSTED", "(5/5)"):
        await kit.enqueue()
