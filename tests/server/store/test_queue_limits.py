"""A queue's limits: how fast its jobs go out and how many at once, in both stores alike."""

from __future__ import annotations

from typing import Any

import pytest

from spooled_pipelines.server.core.jobs.records import JobRecord
from spooled_pipelines.server.core.jobs.settlements import Failure
from spooled_pipelines.server.core.limits.queue_limits import QueueControl, QueueLimits
from spooled_pipelines.server.store.requests import ControlChange
from tests.support.store_kit import ORGANIZATION, StoreKit, give_back, holder, settle_one

NO_LIMITS = QueueLimits()


async def limit(kit: StoreKit, queue: str = "q", **limits: Any) -> QueueLimits:
    change = ControlChange(limits=QueueLimits(**limits))
    return (await kit.store.set_control(ORGANIZATION, queue, change)).limits


async def fill(kit: StoreKit, jobs: int, queue: str = "q") -> None:
    for _ in range(jobs):
        await kit.enqueue(queue)


async def fail(kit: StoreKit, job: JobRecord) -> None:
    await settle_one(kit.store, ORGANIZATION, holder(job), Failure("boom", True))


async def test_no_more_than_the_burst_goes_out_at_once_and_then_as_many_as_the_rate_says(
    kit: StoreKit,
) -> None:
    await fill(kit, 20)
    kept = await limit(kit, jobs_per_second=2.0, burst=3)
    assert kept == QueueLimits(2.0, 3, None)
    assert len(await kit.claim(100)) == 3
    assert await kit.claim(100) == []
    kit.clock.advance(0.499)
    assert await kit.claim(100) == []
    kit.clock.advance(0.001)
    assert len(await kit.claim(100)) == 1
    kit.clock.advance(1)
    assert len(await kit.claim(1)) == 1
    assert len(await kit.claim(100)) == 1
    # However long it was quiet.
    kit.clock.advance(25)
    assert len(await kit.claim(100)) == 3


async def test_a_worker_that_is_held_back_is_told_when_to_look_again(kit: StoreKit) -> None:
    await fill(kit, 3)
    await limit(kit, jobs_per_second=0.25)
    assert len(await kit.claim(10)) == 1
    kit.changed()
    assert await kit.claim(10) == []
    assert kit.changed().held_until == {(ORGANIZATION, "q"): kit.clock.now() + 4_000}
    kit.clock.advance(4)
    assert len(await kit.claim(10)) == 1
    # A queue that is empty holds nobody back.
    kit.clock.advance(4)
    await kit.claim(10)
    kit.clock.advance(4)
    kit.changed()
    assert await kit.claim(10) == []
    assert kit.changed().held_until == {}


async def test_no_more_than_the_cap_are_in_flight_whatever_ends_them(kit: StoreKit) -> None:
    await fill(kit, 10)
    await limit(kit, max_in_flight=3)
    jobs = await kit.claim(100)
    assert len(jobs) == 3
    assert await kit.claim(100) == []
    # Completed, failed, given back undelivered: each makes room for one, and says so.
    kit.changed()
    await kit.complete(jobs[0])
    assert kit.changed().ready_queues == {(ORGANIZATION, "q")}
    jobs[0] = await kit.claim_one()
    assert await kit.claim(100) == []
    await fail(kit, jobs[1])
    jobs[1] = await kit.claim_one()
    assert await kit.claim(100) == []
    await give_back(kit.store, ORGANIZATION, [holder(jobs[2])])
    assert len(await kit.claim(100)) == 1
    assert await kit.claim(100) == []
    # And so does a lease that runs out.
    kit.clock.advance(31)
    await kit.store.sweep()
    assert len(await kit.claim(100)) == 3
    assert await kit.queue_counts() == {"processing": 3, "pending": 6, "waiting": 1, "completed": 1}


async def test_a_cap_below_what_is_out_takes_no_job_from_anybody(kit: StoreKit) -> None:
    await fill(kit, 6)
    jobs = await kit.claim(4)
    await limit(kit, max_in_flight=2)
    assert await kit.claim(10) == []
    for done, free in zip(jobs, (0, 0, 1, 1), strict=True):
        await kit.complete(done)
        assert len(await kit.claim(10)) == free


async def test_both_limits_hold_at_once(kit: StoreKit) -> None:
    await fill(kit, 20)
    await limit(kit, jobs_per_second=10.0, burst=5, max_in_flight=7)
    first = await kit.claim(100)
    assert len(first) == 5
    kit.clock.advance(10)
    assert len(await kit.claim(100)) == 2
    await kit.complete(first[0])
    await kit.complete(first[1])
    assert len(await kit.claim(1)) == 1
    # What was not let out for want of room is still in the bucket.
    assert len(await kit.claim(100)) == 1


async def test_limits_are_of_one_queue_and_one_organization(kit: StoreKit) -> None:
    await fill(kit, 3)
    await fill(kit, 3, "other")
    await limit(kit, max_in_flight=1)
    await kit.store.set_control(
        "another", "other", ControlChange(limits=QueueLimits(max_in_flight=1))
    )
    assert len(await kit.claim(10)) == 1
    assert len(await kit.claim(10, queue_name="other")) == 3
    assert (await kit.store.control("another", "q")).limits == NO_LIMITS


async def test_limits_outlast_a_restart_and_so_does_what_they_let_out(kit: StoreKit) -> None:
    await fill(kit, 5)
    await limit(kit, jobs_per_second=1.0, burst=2, max_in_flight=3)
    assert len(await kit.claim(10)) == 2
    await kit.reopen()
    control = await kit.store.control(ORGANIZATION, "q")
    assert control == QueueControl(QueueLimits(1.0, 2, 3), paused=False)
    assert await kit.claim(10) == []
    kit.clock.advance(2)
    assert len(await kit.claim(10)) == 1


async def test_what_is_set_replaces_what_was_and_lets_no_more_out(kit: StoreKit) -> None:
    await fill(kit, 30)
    await limit(kit, jobs_per_second=1.0, burst=5)
    assert len(await kit.claim(10)) == 5
    await limit(kit, jobs_per_second=1.0, burst=10)
    assert await kit.claim(10) == []
    assert await limit(kit, max_in_flight=6) == QueueLimits(None, None, 6)
    assert len(await kit.claim(10)) == 1
    kit.changed()
    assert await limit(kit) == NO_LIMITS
    changed = kit.changed()
    assert (changed.ready_queues, changed.controlled) == ({(ORGANIZATION, "q")}, {ORGANIZATION})
    assert len(await kit.claim(10)) == 10
    assert (await kit.store.control(ORGANIZATION, "q")).limits == NO_LIMITS


async def test_a_queue_may_be_limited_before_it_has_jobs(kit: StoreKit) -> None:
    await limit(kit, max_in_flight=1)
    await fill(kit, 2)
    assert len(await kit.claim(10)) == 1


@pytest.mark.parametrize(("rate", "burst"), [(0.5, 1), (10.0, 1), (10.5, 2), (50.0, 5)])
async def test_the_burst_is_a_tenth_of_a_second_where_nobody_says(
    kit: StoreKit, rate: float, burst: int
) -> None:
    assert await limit(kit, jobs_per_second=rate) == QueueLimits(rate, burst, None)


async def test_who_asks_what_holds_a_batch_back_is_told_of_the_limits(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", *"abcd")
    await limit(kit, jobs_per_second=1.0, burst=2, max_in_flight=2)
    jobs = await kit.claim(10)
    (batch,) = await kit.store.batches(ORGANIZATION, ["b"])
    assert batch.limited_by is not None
    assert (batch.limited_by.in_flight, batch.limited_by.rate) == (True, True)
    await kit.complete(jobs[0])
    (batch,) = await kit.store.batches(ORGANIZATION, ["b"])
    assert batch.limited_by is not None
    assert (batch.limited_by.in_flight, batch.limited_by.rate) == (False, True)
    await limit(kit)
    (batch,) = await kit.store.batches(ORGANIZATION, ["b"])
    assert batch.limited_by is None
