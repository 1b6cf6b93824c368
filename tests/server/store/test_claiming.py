"""Claims: highest priority first, then oldest, and never the same job twice."""

from __future__ import annotations

import asyncio

from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.store.requests import ClaimRequest
from tests.support.store_kit import ORGANIZATION, StoreKit, give_back, holder, refused, struct


async def test_highest_priority_first_then_oldest(kit: StoreKit) -> None:
    ids = [await kit.enqueue(priority=priority) for priority in (0, 5, -5, 5, 0)]
    claimed = [job.job_id for job in await kit.claim(10)]
    assert claimed == [ids[1], ids[3], ids[0], ids[4], ids[2]]


async def test_a_claim_leases_the_job(kit: StoreKit) -> None:
    await kit.enqueue()
    job = await kit.claim_one(worker="w-1", seconds=45)
    assert job.status == Status.PROCESSING
    assert (job.worker_id, job.started_at) == ("w-1", kit.clock.now())
    assert job.lease_expires_at == kit.clock.now() + 45_000
    assert await kit.job(job.job_id) == job
    assert kit.changed().due == job.lease_expires_at
    assert await kit.queue_counts() == {"processing": 1}


async def test_every_lease_has_a_token_of_its_own(kit: StoreKit) -> None:
    for _ in range(5):
        await kit.enqueue(max_retries=100)
    tokens = [job.lease_id for job in await kit.claim(5)]
    kit.clock.advance(31)
    await kit.store.sweep()
    tokens += [job.lease_id for job in await kit.claim(5)]
    assert len(set(tokens)) == 10


async def test_claimers_at_the_same_time_never_get_the_same_job(kit: StoreKit) -> None:
    for _ in range(40):
        await kit.enqueue()
    lots = await asyncio.gather(*(kit.claim(7, worker=f"w{n}") for n in range(10)))
    claimed = [job.job_id for lot in lots for job in lot]
    assert len(claimed) == len(set(claimed)) == 40


async def test_a_claim_takes_from_its_queue_and_organization_alone(kit: StoreKit) -> None:
    await kit.enqueue("a")
    assert await kit.claim(queue_name="b") == []
    assert await kit.store.claim("other", ClaimRequest("a", "w", 30_000, 1)) == []
    assert len(await kit.claim(queue_name="a")) == 1


async def test_what_does_not_fit_into_one_answer_stays_for_the_next(kit: StoreKit) -> None:
    for _ in range(5):
        await kit.enqueue(payload=struct(text="x" * 1_000_000))
    assert [len(await kit.claim(5)) for _ in range(3)] == [3, 2, 0]


async def test_a_payload_larger_than_an_answer_is_claimed_alone(kit: StoreKit) -> None:
    for _ in range(2):
        await kit.enqueue(payload=struct(numbers=[1.0] * 400_000))
    assert [len(await kit.claim(5)) for _ in range(3)] == [1, 1, 0]


async def test_a_claim_given_back_is_as_if_it_had_never_been(kit: StoreKit) -> None:
    job_id = await kit.enqueue()
    before = await kit.job(job_id)
    job = await kit.claim_one()
    kit.changed()
    await give_back(kit.store, ORGANIZATION, [holder(job)])
    assert await kit.job(job_id) == before
    assert kit.changed().ready_queues == {(ORGANIZATION, "q")}
    with refused("FAILED_PRECONDITION"):
        await kit.complete(job)


async def test_giving_back_spares_what_another_holds_by_now(kit: StoreKit) -> None:
    await kit.enqueue()
    stale = await kit.claim_one()
    kit.clock.advance(31)
    await kit.store.sweep()
    current = await kit.claim_one(worker="other")
    await give_back(kit.store, ORGANIZATION, [holder(stale)])
    assert await kit.job(current.job_id) == current
