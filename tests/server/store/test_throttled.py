"""A job that comes too fast slows its queue, for all who take jobs of it, and keeps its place."""

from __future__ import annotations

import pytest

from spooled_pipelines.server.core.jobs.records import JobRecord
from spooled_pipelines.server.core.jobs.settlements import GiveBack
from spooled_pipelines.server.core.limits.queue_limits import QueueLimits, Throttle
from spooled_pipelines.server.store.requests import ControlChange
from tests.support.store_kit import ORGANIZATION, StoreKit, holder, settle_one


async def throttle(kit: StoreKit, job: JobRecord, after_ms: int | None = None) -> None:
    act = GiveBack(after_ms=after_ms, throttles=True)
    await settle_one(kit.store, ORGANIZATION, holder(job), act)


async def slowed(kit: StoreKit) -> Throttle | None:
    control = await kit.store.control(ORGANIZATION, "q")
    (listed,) = (await kit.store.list_queues(ORGANIZATION, None, "", 10)).queues
    queues = (await kit.store.depths(10)).throttled
    assert listed.control == control
    assert [each.throttle for each in queues] == ([control.throttle] if control.throttle else [])
    return control.throttle


async def test_it_keeps_its_retries_and_its_place_and_the_queue_slows(kit: StoreKit) -> None:
    ids = [await kit.enqueue(max_retries=0) for _ in range(30)]
    jobs = await kit.claim(limit=20)
    kit.clock.advance(0.2)
    # Twenty at once for a fifth of a second each were 100 a second.
    await throttle(kit, jobs[0])
    assert await slowed(kit) == Throttle(95, kit.clock.now(), None)
    assert await kit.claim(limit=10) == []
    kit.clock.advance(0.011)
    (again,) = await kit.claim(limit=10)
    assert (again.job_id, again.retry_count) == (ids[0], 0)
    kit.clock.advance(60)
    assert len(await kit.claim(limit=10)) == 10
    kit.clock.advance(1000)
    assert await slowed(kit) is None


async def test_it_is_slow_for_as_long_as_jobs_say_so(kit: StoreKit) -> None:
    for _ in range(100):
        await kit.enqueue()
    rates, said = [], 0
    for _ in range(6):
        kit.clock.advance(1.5)
        jobs = await kit.claim(limit=10)
        said += len(jobs)
        kit.clock.advance(0.1)
        await throttle(kit, jobs[0])
        # Of jobs that were out already nothing is learned.
        for job in jobs[1:]:
            await throttle(kit, job)
        found = await slowed(kit)
        rates.append(0 if found is None else found.jobs_per_second)
        # Each of them is counted.
        assert kit.changes.flows[ORGANIZATION, "q"]["throttled"] == said
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.8 * rates[0]


async def test_nothing_goes_out_until_it_was_said_and_those_who_wait_are_told(
    kit: StoreKit,
) -> None:
    for _ in range(5):
        await kit.enqueue()
    job = await kit.claim_one()
    kit.clock.advance(0.1)
    await throttle(kit, job, 30_000)
    found = await slowed(kit)
    assert found is not None
    assert found.held_until == kit.clock.now() + 30_000
    kit.changed()
    assert await kit.claim() == []
    (moment,) = kit.changed().held_until.values()
    assert found.held_until < moment < found.held_until + 1_000
    await kit.reopen()
    kit.clock.advance(29)
    assert await kit.claim() == []
    kit.clock.advance(2)
    assert len(await kit.claim(limit=1)) == 1


async def test_an_operator_who_sets_limits_ends_it(kit: StoreKit) -> None:
    await kit.enqueue()
    job = await kit.claim_one()
    kit.clock.advance(0.1)
    await throttle(kit, job, 60_000)
    await kit.store.set_control(ORGANIZATION, "q", ControlChange(limits=QueueLimits()))
    assert await slowed(kit) is None
    assert await kit.claim_one()


@pytest.mark.parametrize("limits", [QueueLimits(), QueueLimits(max_in_flight=1)])
async def test_other_limits_stay_when_it_has_recovered(kit: StoreKit, limits: QueueLimits) -> None:
    for _ in range(5):
        await kit.enqueue()
    await kit.store.set_control(ORGANIZATION, "q", ControlChange(limits=limits))
    job = await kit.claim_one()
    kit.clock.advance(0.1)
    await throttle(kit, job)
    kit.clock.advance(600)
    claimed = await kit.claim(limit=5)
    assert len(claimed) == (limits.max_in_flight or 5)
    assert (await kit.store.control(ORGANIZATION, "q")) == (limits, False, None)
