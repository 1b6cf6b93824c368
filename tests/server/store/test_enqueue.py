"""A job is stored once for each key, and keeps what it was given."""

from __future__ import annotations

import asyncio

from tests.support.store_kit import ORGANIZATION, StoreKit, new_job, refused, struct

HASH = "00112233445566778899aabbccddeeff"


async def test_a_job_keeps_everything_it_was_given(kit: StoreKit) -> None:
    payload = struct(text="é\u0001", number=1.5)
    job_id = await kit.enqueue(
        payload=payload, priority=-7, max_retries=9, timeout_seconds=60, idempotency_key="k"
    )
    job = await kit.job(job_id)
    assert job.payload == payload
    assert (job.priority, job.max_retries, job.timeout_seconds) == (-7, 9, 60)
    assert (job.queue_name, job.idempotency_key, job.created_at) == ("q", "k", kit.clock.now())


async def test_the_same_key_is_the_same_job_and_changes_nothing(kit: StoreKit) -> None:
    for key in ("k", HASH, HASH.upper(), "é" * 100):
        first = await kit.store.enqueue(ORGANIZATION, new_job(idempotency_key=key))
        again = await kit.store.enqueue(
            ORGANIZATION, new_job("other", idempotency_key=key, priority=9, payload=struct(n=2))
        )
        assert (first.created, again.created) == (True, False)
        assert again.job_id == first.job_id
        job = await kit.job(first.job_id)
        assert (job.queue_name, job.priority, job.payload) == ("q", 0, struct(n=1))
        assert job.idempotency_key == key
    assert await kit.queue_counts() == {"pending": 4}
    assert await kit.queue_counts("other") == {}


async def test_jobs_without_a_key_are_never_the_same(kit: StoreKit) -> None:
    assert await kit.enqueue() != await kit.enqueue()
    assert await kit.queue_counts() == {"pending": 2}


async def test_a_key_belongs_to_its_organization(kit: StoreKit) -> None:
    mine = await kit.store.enqueue("acme", new_job(idempotency_key="k"))
    theirs = await kit.store.enqueue("other", new_job(idempotency_key="k"))
    assert theirs.created
    assert theirs.job_id != mine.job_id
    with refused("NOT_FOUND", "no job"):
        await kit.store.job("acme", theirs.job_id)


async def test_a_scheduled_job_is_claimable_from_its_time_on(kit: StoreKit) -> None:
    due = kit.clock.now() + 60_000
    job_id = await kit.enqueue(scheduled_at=due)
    assert kit.changed().due == due
    assert await kit.queue_counts() == {"scheduled": 1}
    kit.clock.advance(59.999)
    assert await kit.claim() == []
    kit.clock.advance(0.001)
    assert (await kit.claim_one()).job_id == job_id
    assert (await kit.job(job_id)).scheduled_at == due


async def test_a_time_that_has_passed_means_at_once(kit: StoreKit) -> None:
    await kit.enqueue(scheduled_at=kit.clock.now())
    assert await kit.queue_counts() == {"pending": 1}


async def test_the_sweep_makes_due_jobs_claimable_and_says_when_it_is_next(kit: StoreKit) -> None:
    first, second = kit.clock.now() + 1_000, kit.clock.now() + 2_000
    await kit.enqueue(scheduled_at=second)
    await kit.enqueue(scheduled_at=first)
    assert await kit.store.sweep() == first
    kit.clock.advance(1)
    kit.changed()
    assert await kit.store.sweep() == second
    assert kit.changed().ready_queues == {(ORGANIZATION, "q")}
    assert await kit.queue_counts() == {"pending": 1, "scheduled": 1}
    kit.clock.advance(1)
    assert await kit.store.sweep() is None
    assert await kit.queue_counts() == {"pending": 2}


async def test_an_enqueue_wakes_its_queue_alone(kit: StoreKit) -> None:
    await kit.enqueue("a")
    assert kit.changed().ready_queues == {(ORGANIZATION, "a")}


async def test_the_oldest_claimable_job_is_told_whatever_its_priority(kit: StoreKit) -> None:
    started = kit.clock.now()
    for priority in (5, -3, 5, 0):
        await kit.enqueue(priority=priority)
        kit.clock.advance(1)
    oldest = [(await kit.store.queue(ORGANIZATION, "q")).oldest]
    for _ in range(4):
        await kit.claim_one()
        oldest.append((await kit.store.queue(ORGANIZATION, "q")).oldest)
    # Claimed in the order 0, 2 (priority 5), 3 (priority 0), 1 (priority -3).
    assert oldest == [started, started + 1000, started + 1000, started + 1000, None]


async def test_ids_are_not_given_twice_even_after_a_restart(kit: StoreKit) -> None:
    before = [await kit.enqueue() for _ in range(3)]
    await kit.reopen()
    after = [await kit.enqueue() for _ in range(3)]
    assert sorted({*before, *after}) == before + after


async def test_an_id_of_another_store_is_of_no_job(kit: StoreKit) -> None:
    job_id = await kit.enqueue()
    for wrong in ("", "x", job_id[:-1], job_id + "0", "f" * 24 + job_id[24:], job_id.upper() + " "):
        with refused("NOT_FOUND", "no job"):
            await kit.store.job(ORGANIZATION, wrong)


async def test_jobs_that_come_together_are_each_stored_once_and_as_they_were_given(
    kit: StoreKit,
) -> None:
    for queue in ("q", "other"):
        # Those that come before its number is known are not stored in the order in which they came.
        await kit.enqueue(queue)
    keys = [f"{number % 200:032x}" for number in range(300)]
    jobs = [
        new_job(
            ("q", "other")[number % 40 > 35],
            idempotency_key=key,
            payload=struct(n=number % 200),
            priority=number % 200 // 100,
            tags=None if number % 50 else b"",
        )
        for number, key in enumerate(keys)
    ]
    made = await asyncio.gather(*(kit.store.enqueue(ORGANIZATION, job) for job in jobs))
    assert sum(one.created for one in made) == 200
    assert [one.created for one in made[:200]] == [True] * 200
    assert [one.job_id for one in made[200:]] == [one.job_id for one in made[:100]]
    for one, job in list(zip(made, jobs, strict=True))[:200:17]:
        stored = await kit.job(one.job_id)
        assert (stored.queue_name, stored.payload, stored.priority, stored.idempotency_key) == (
            job.queue_name,
            job.payload,
            job.priority,
            job.idempotency_key,
        )
    assert await kit.store.recount() == []
