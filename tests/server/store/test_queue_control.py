"""Pausing, purging and dead letters of a queue, in both stores alike."""

from __future__ import annotations

from spooled_pipelines.server.core.jobs.records import JobPage
from spooled_pipelines.server.core.jobs.settlements import Failure
from spooled_pipelines.server.store.requests import ControlChange, DeadLetters, QueueSelector
from tests.support.store_kit import ORGANIZATION, StoreKit, holder, settle_one, struct


async def pause(kit: StoreKit, paused: bool = True) -> None:
    await kit.store.set_control(ORGANIZATION, "q", ControlChange(paused=paused))


async def purge(kit: StoreKit) -> int:
    return (await kit.store.cancel(ORGANIZATION, QueueSelector("q"))).cancelled


async def letters(kit: StoreKit, after: int = 0, limit: int = 100, queue: str = "q") -> JobPage:
    return await kit.store.jobs(ORGANIZATION, DeadLetters(queue, after, limit))


async def bury(kit: StoreKit, error: str = "boom") -> str:
    job = await kit.claim_one()
    await settle_one(kit.store, ORGANIZATION, holder(job), Failure(error, False))
    return job.job_id


async def test_nothing_is_claimed_of_a_paused_queue_and_what_runs_settles(kit: StoreKit) -> None:
    for _ in range(3):
        await kit.enqueue()
    running = await kit.claim_one()
    await pause(kit)
    await pause(kit)
    assert await kit.claim(10) == []
    await kit.complete(running)
    await kit.enqueue("other")
    assert len(await kit.claim(10, queue_name="other")) == 1
    await kit.reopen()
    assert await kit.claim(10) == []
    kit.changed()
    await pause(kit, paused=False)
    assert kit.changed().ready_queues == {(ORGANIZATION, "q")}
    assert len(await kit.claim(10)) == 2


async def test_a_queue_can_be_paused_before_it_has_jobs(kit: StoreKit) -> None:
    await pause(kit)
    await kit.open_batch()
    await kit.add("b", "x")
    assert await kit.claim(1) == []
    (batch,) = await kit.store.batches(ORGANIZATION, ["b"])
    assert batch.queue_paused
    await kit.store.set_control("other", "q", ControlChange(paused=False))
    assert await kit.claim(1) == []


async def test_a_purge_cancels_what_is_pending_and_nothing_else(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "runs", "retries", "ready")
    await kit.enqueue(scheduled_at=kit.clock.now() + 60_000)
    await kit.enqueue("other")
    await kit.claim_one()
    await settle_one(kit.store, ORGANIZATION, holder(await kit.claim_one()), Failure("boom", True))
    await kit.enqueue(priority=5)
    assert await purge(kit) == 3
    assert await kit.queue_counts() == {"processing": 1, "scheduled": 1, "cancelled": 3}
    assert await kit.counts() == {"processing": 1, "cancelled": 2}
    assert await kit.queue_counts("other") == {"pending": 1}
    assert await purge(kit) == 0
    assert (await kit.store.cancel("other", QueueSelector("q"))).cancelled == 0


async def test_a_large_queue_is_purged_and_redriven_in_steps(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", *(str(n) for n in range(4_001)), max_retries=0)
    while await kit.claim(500, seconds=5):
        pass
    kit.clock.advance(5)
    await kit.store.sweep()
    assert (await kit.store.retry(ORGANIZATION, QueueSelector("q"), "Lease")).retried == 4_001
    assert await purge(kit) == 4_001
    assert await kit.queue_counts() == {"cancelled": 4_001}


async def test_dead_letters_come_in_pages_in_order(kit: StoreKit) -> None:
    for n in range(5):
        await kit.enqueue(payload=struct(n=n))
    dead = [await bury(kit) for _ in range(4)]
    first = await letters(kit, limit=3)
    assert [job.job_id for job in first.jobs] == dead[:3]
    assert first.jobs[0].payload == struct(n=0)
    assert first.jobs[0].queue_name == "q"
    assert first.after is not None
    rest = await letters(kit, after=first.after, limit=3)
    assert ([job.job_id for job in rest.jobs], rest.after) == (dead[3:], None)
    assert (await letters(kit, limit=4)).after is None
    assert await letters(kit, queue="none") == ([], None)
    assert await kit.store.jobs("other", DeadLetters("q", 0, 10)) == ([], None)


async def test_a_page_of_dead_letters_fits_into_an_answer(kit: StoreKit) -> None:
    for _ in range(3):
        await kit.enqueue(payload=struct(text="x" * (2 << 20)))
        await bury(kit)
    page = await letters(kit)
    assert len(page.jobs) == 1
    assert page.after is not None


async def test_dead_letters_go_back_by_their_error(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "x", "y", max_retries=0)
    away = await bury(kit, "HTTP 503")
    await bury(kit, "HTTP 404")
    kit.changed()
    assert (await kit.store.retry(ORGANIZATION, QueueSelector("q"), "503")).retried == 1
    assert kit.changed().ready_queues == {(ORGANIZATION, "q")}
    assert (await kit.claim_one()).job_id == away
    (batch,) = await kit.store.batches(ORGANIZATION, ["b"])
    assert batch.top_errors == (("HTTP 404", 1),)
    assert (await kit.store.retry("other", QueueSelector("q"), "")).retried == 0
