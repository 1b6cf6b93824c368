"""A failed job comes back later and later, until its retries are used up."""

from __future__ import annotations

from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.jobs.settlements import Failure
from tests.support.store_kit import ORGANIZATION, StoreKit, holder, settle_one


async def test_each_retry_waits_twice_as_long_up_to_an_hour(kit: StoreKit) -> None:
    job_id = await kit.enqueue(max_retries=8)
    delays = []
    for count in range(8):
        job = await kit.claim_one()
        assert job.retry_count == count
        outcome = await settle_one(
            kit.store, ORGANIZATION, holder(job), Failure(f"broken {count}", True)
        )
        assert outcome.will_retry
        delays.append(outcome.delay_seconds)
        kit.clock.advance(outcome.delay_seconds - 1)
        assert await kit.claim() == []
        kit.clock.advance(1)
    assert delays == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    outcome = await settle_one(
        kit.store, ORGANIZATION, holder(await kit.claim_one()), Failure("last", True)
    )
    assert outcome == (False, 0)
    job = await kit.job(job_id)
    assert (job.status, job.last_error) == (Status.DEADLETTER, "last")


async def test_a_job_may_say_itself_how_long_it_waits(kit: StoreKit) -> None:
    jobs = {"10s, 30s": [10, 30, 30], "exponential 5s cap 12s": [5, 10, 12], "0s": [0, 0, 0]}
    for backoff, pauses in jobs.items():
        await kit.enqueue(retry_backoff=backoff)
        for pause in pauses:
            job = await kit.claim_one()
            told = await settle_one(kit.store, ORGANIZATION, holder(job), Failure("no", True))
            assert told == (True, pause)
            if pause:
                kit.clock.advance(pause - 1)
                assert await kit.claim() == []
                kit.clock.advance(1)
        await settle_one(
            kit.store, ORGANIZATION, holder(await kit.claim_one()), Failure("no", False)
        )


async def test_jitter_brings_jobs_back_one_after_the_other_and_none_too_late(kit: StoreKit) -> None:
    rows = [str(row) for row in range(50)]
    await kit.open_batch("b")
    await kit.add("b", *rows, retry_backoff="100s jitter 50%")
    jobs = await kit.claim(limit=50)
    told = [
        await settle_one(kit.store, ORGANIZATION, holder(job), Failure("no", True)) for job in jobs
    ]
    pauses = [outcome.delay_seconds for outcome in told if outcome]
    assert min(pauses) >= 50
    assert max(pauses) < 150
    assert len(set(pauses)) > 20


async def test_a_job_that_waits_for_its_retry_counts_as_pending(kit: StoreKit) -> None:
    job_id = await kit.enqueue()
    kit.changed()
    await settle_one(
        kit.store, ORGANIZATION, holder(await kit.claim_one()), Failure("broken", True)
    )
    assert await kit.queue_counts() == {"pending": 1, "waiting": 1}
    assert (await kit.store.queue(ORGANIZATION, "q")).counts.total == 1
    assert not kit.changed().ready_queues
    job = await kit.job(job_id)
    assert (job.status, job.retry_count, job.last_error) == (Status.PENDING, 1, "broken")
    kit.clock.advance(60)
    await kit.store.sweep()
    assert await kit.queue_counts() == {"pending": 1}


async def test_giving_up_sends_it_to_the_dead_letters_at_once(kit: StoreKit) -> None:
    await kit.enqueue(max_retries=100)
    job = await kit.claim_one()
    assert await settle_one(kit.store, ORGANIZATION, holder(job), Failure("hopeless", False)) == (
        False,
        0,
    )
    assert await kit.queue_counts() == {"deadletter": 1}
    dead = await kit.job(job.job_id)
    assert (dead.last_error, dead.completed_at) == ("hopeless", kit.clock.now())


async def test_what_waits_for_its_retry_says_with_which_error_and_until_when(kit: StoreKit) -> None:
    rows = [str(row) for row in range(6)]
    await kit.open_batch("b")
    await kit.add("b", *rows)
    jobs = await kit.claim(limit=6)
    now = kit.clock.now()
    for job, error, delay in (
        *((job, "the bank is closed", 30 + place) for place, job in enumerate(jobs[:3])),
        *((jobs[3], "x" * 300, 20), (jobs[4], "for good", None)),
    ):
        act = Failure(error, delay is not None, delay)
        await settle_one(kit.store, ORGANIZATION, holder(job), act)
    expected = (("the bank is closed", 3, now + 30_000), ("x" * 200, 1, now + 20_000))
    (batch,) = await kit.store.batches(ORGANIZATION, ["b"])
    assert (batch.waiting_errors, batch.counts.waiting) == (expected, 4)
    (queue,) = (await kit.store.list_queues(ORGANIZATION, None, "", 10)).queues
    assert queue.waiting_errors == expected
    kit.clock.advance(40)
    await kit.store.sweep()
    (batch,) = await kit.store.batches(ORGANIZATION, ["b"])
    assert (batch.waiting_errors, batch.counts.waiting) == ((), 0)
