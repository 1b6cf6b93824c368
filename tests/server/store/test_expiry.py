"""A job that has not started by its time is cancelled, counted apart, and never handed out."""

from __future__ import annotations

from spooled_pipelines.server.core.batches.records import BatchRecord
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.jobs.settlements import Failure, Revision
from spooled_pipelines.server.store.requests import BatchSelector
from tests.support.store_kit import ORGANIZATION, StoreKit, give_back, holder, settle_one


async def batch(kit: StoreKit) -> BatchRecord:
    (record,) = await kit.store.batches(ORGANIZATION, ["b"])
    return record


async def test_claims_never_hand_it_out_and_the_sweep_cancels_it(kit: StoreKit) -> None:
    now = kit.clock.now()
    await kit.open_batch("b")
    kit.changed()
    await kit.add("b", "late", "in time", "never", expires_at=[now + 10_000, now + 20_000, None])
    assert kit.changed().due == now + 10_000
    kit.clock.advance(10)
    # Before any sweep.
    (job,) = await kit.claim(limit=1)
    assert job.payload is not None
    assert b"in time" in job.payload
    assert await kit.store.sweep() == now + 40_000
    assert await kit.counts("b") == {"pending": 1, "processing": 1, "cancelled": 1, "expired": 1}
    assert (await batch(kit)).counts.expired == 1
    assert kit.changed().batches
    # What runs goes on; it ends as if it had no such time.
    kit.clock.advance(15)
    await kit.store.sweep()
    await kit.complete(job)
    assert await kit.counts("b") == {"pending": 1, "completed": 1, "cancelled": 1, "expired": 1}


async def test_one_time_for_a_whole_chunk_and_for_jobs_that_are_scheduled(kit: StoreKit) -> None:
    now = kit.clock.now()
    await kit.open_batch("b")
    due = [now + 60_000, now + 60_000, None]
    await kit.add("b", "x", "y", "z", expires_at=now + 5_000, scheduled_at=due)
    assert await kit.store.sweep() == now + 5_000
    kit.clock.advance(5)
    assert await kit.claim() == []
    await kit.store.sweep()
    assert await kit.counts("b") == {"cancelled": 3, "expired": 3}
    assert await kit.queue_counts() == await kit.counts("b")


async def test_no_retry_begins_after_it_nor_does_what_was_given_back(kit: StoreKit) -> None:
    now = kit.clock.now()
    await kit.open_batch("b")
    await kit.add("b", "x", "y", expires_at=now + 5_000)
    first, second = await kit.claim(limit=2)
    await settle_one(kit.store, ORGANIZATION, holder(first), Failure("broken", True, 2))
    kit.clock.advance(3)
    (again,) = await kit.claim(limit=2)
    kit.clock.advance(3)
    kit.changed()
    await settle_one(kit.store, ORGANIZATION, holder(again), Failure("broken", True, 3_600))
    await give_back(kit.store, ORGANIZATION, [holder(second)])
    assert kit.changed().due == now + 5_000
    assert await kit.claim() == []
    await kit.store.sweep()
    assert (await batch(kit)).counts.expired == 2
    job = await kit.job(first.job_id)
    assert (job.status, job.last_error) == (Status.CANCELLED, "broken")


async def test_what_is_put_back_has_no_such_time_any_longer(kit: StoreKit) -> None:
    now = kit.clock.now()
    await kit.open_batch("b")
    await kit.add("b", "x", "y", "z", expires_at=now + 5_000)
    jobs = await kit.claim(limit=2)
    for job in jobs:
        await settle_one(kit.store, ORGANIZATION, holder(job), Failure("broken", False))
    kit.clock.advance(6)
    await kit.store.sweep()
    # A dead letter that is given up had started.
    await kit.store.revise(ORGANIZATION, [Revision(jobs[0].job_id, discard=True)])
    assert await kit.counts("b") == {"deadletter": 1, "cancelled": 2, "expired": 1}
    assert await kit.queue_counts() == await kit.counts("b")
    await kit.store.retry(ORGANIZATION, BatchSelector("b"), "", True)
    assert (await batch(kit)).counts.expired == 0
    await kit.store.sweep()
    assert len(await kit.claim(limit=5)) == 3
    assert await kit.store.recount() == []


async def test_a_single_job_and_one_whose_time_is_past_already(kit: StoreKit) -> None:
    kit.changed()
    late = await kit.enqueue(expires_at=kit.clock.now() - 1)
    assert kit.changed().due is not None
    in_time = await kit.enqueue(expires_at=kit.clock.now() + 1_000)
    assert [job.job_id for job in await kit.claim(limit=5)] == [in_time]
    await kit.store.sweep()
    assert (await kit.job(late)).status == Status.CANCELLED
    assert await kit.queue_counts() == {"processing": 1, "cancelled": 1, "expired": 1}


async def test_another_batch_that_has_it_as_well_counts_it_too(kit: StoreKit) -> None:
    await kit.open_batch("b")
    await kit.add("b", "x", "y", expires_at=[kit.clock.now() + 1_000, None])
    kit.clock.advance(1)
    await kit.store.sweep()
    await kit.open_batch("c")
    assert await kit.add("c", "x", "z") == (1, [0])
    assert await kit.counts("c") == {"pending": 1, "cancelled": 1, "expired": 1}
    assert await kit.queue_counts() == {"pending": 2, "cancelled": 1, "expired": 1}
    assert await kit.store.recount() == []
