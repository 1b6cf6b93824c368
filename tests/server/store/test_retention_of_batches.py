"""Batches and dead letters have a time of their own, and then they are gone with all they had."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from spooled_pipelines.server.core.batches.records import BatchOpening, PartRecord
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.jobs.records import OpenBatches
from spooled_pipelines.server.core.jobs.settlements import Completion, Failure
from spooled_pipelines.server.core.upkeep.retention import STEP_JOBS, Retention, retention_of
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.requests import BatchJobs, BatchSelector, QueueSelector
from tests.support.store_kit import (
    ORGANIZATION,
    StoreKit,
    chunk,
    give_back,
    holder,
    new_job,
    refused,
    settle_one,
)

DAY = 86_400
Keep = Callable[..., Awaitable[StoreKit]]


@pytest.fixture
async def keeping(store_url: str) -> AsyncIterator[Keep]:
    """Opens the store with a retention in days; in the end every counter equals a recount."""
    kits: list[StoreKit] = []

    async def keep(*days: float | None) -> StoreKit:
        retention = Retention(*(None if each is None else each * DAY for each in days))
        kit = StoreKit(lambda clock: open_store(store_url, clock, retention))
        if kits:
            kit.clock = kits[-1].clock
        kits.append(kit)
        await kit.open()
        return kit

    yield keep
    assert await kits[-1].store.recount() == []
    for kit in kits:
        await kit.store.close()


async def sweep(kit: StoreKit) -> None:
    """As the timer does it: again and again while there is more."""
    while (moment := await kit.store.sweep()) is not None and moment - kit.clock.now() < 1_000:
        kit.clock.advance((moment - kit.clock.now()) / 1000)
    assert await kit.store.recount() == []


async def pass_days(kit: StoreKit, days: float) -> None:
    kit.clock.advance(days * DAY)
    await sweep(kit)


async def fill(kit: StoreKit, batch_id: str, *names: str, generation: int = 0) -> None:
    opening = BatchOpening(batch_id, "q", "", generation)
    await kit.store.open_batch(ORGANIZATION, opening)
    await kit.add(batch_id, *names, upload_id="first", generation=generation)
    await kit.store.seal_batch(ORGANIZATION, batch_id, generation)


async def work(kit: StoreKit, dead: int = 0) -> None:
    """Settle all that is there, the first ones as dead letters."""
    while jobs := await kit.claim(100, seconds=10**7):
        for job in jobs:
            if dead:
                await settle_one(kit.store, ORGANIZATION, holder(job), Failure("broken", False))
                dead -= 1
            else:
                await kit.complete(job)


async def is_there(kit: StoreKit, batch_id: str) -> bool:
    try:
        await kit.counts(batch_id)
    except RefusedError as refusal:
        if refusal.message != f"there is no batch {batch_id!r}":
            raise
        return False
    return True


async def test_a_settled_batch_goes_after_its_time_with_jobs_and_keys(keeping: Keep) -> None:
    kit = await keeping(1, None, 10)
    await fill(kit, "b", "one", "two")
    ids = [job.job_id for job in await kit.claim(2)]
    await give_back(kit.store, ORGANIZATION, [holder(await kit.job(each)) for each in ids])
    await work(kit)
    await pass_days(kit, 9.9)
    assert await kit.counts("b") == {"completed": 2}
    kit.changed()
    await pass_days(kit, 0.2)
    assert not await is_there(kit, "b")
    # Those who watch it look again, and are told so.
    assert (ORGANIZATION, "b") in kit.changed().batches
    assert await kit.queue_counts() == {}
    for job_id in ids:
        with refused("NOT_FOUND", f"there is no job {job_id!r}"):
            await kit.job(job_id)
    # The same table is a new batch of new jobs.
    await kit.open_batch("b")
    assert await kit.add("b", "one", "two", "three") == (3, [])
    await kit.store.seal_batch(ORGANIZATION, "b")
    assert await kit.counts("b") == {"pending": 3}


async def test_the_parts_of_a_batch_go_with_it(keeping: Keep) -> None:
    kit = await keeping(1, None, 2)
    opening = BatchOpening("b", "q", "", part_id="x")
    await kit.store.open_batch(ORGANIZATION, opening)
    await kit.add("b", "one", part_id="x")
    await kit.store.finish_part(ORGANIZATION, "b", 0, PartRecord("x", True, 1))
    await kit.store.seal_batch(ORGANIZATION, "b")
    await work(kit)
    await pass_days(kit, 3)
    assert not await is_there(kit, "b")
    await kit.open_batch("b")
    assert await kit.store.batch_parts(ORGANIZATION, "b", "", 10) == []


async def test_a_batch_that_is_not_settled_stays(keeping: Keep) -> None:
    kit = await keeping(1, None, 2)
    await kit.open_batch("filling")
    await kit.add("filling", "one")
    await work(kit)
    await fill(kit, "working", "two")
    await pass_days(kit, 100)
    assert await kit.counts("filling") == {"completed": 1}
    assert await kit.counts("working") == {"pending": 1}
    await work(kit)
    # Its time begins when it settles.
    await pass_days(kit, 1.5)
    assert await is_there(kit, "working")
    await pass_days(kit, 1)
    assert not await is_there(kit, "working")
    assert await is_there(kit, "filling")


async def test_an_empty_batch_goes_too_and_many_go_together(keeping: Keep) -> None:
    kit = await keeping(1, None, 2)
    for number in range(120):
        await fill(kit, f"b{number}", *(str(number),) * (number % 2))
    await work(kit)
    await pass_days(kit, 3)
    assert not any([await is_there(kit, f"b{number}") for number in range(0, 120, 7)])
    assert await kit.queue_counts() == {}


async def test_dead_letters_keep_their_batch_for_as_long_as_they_are_kept(keeping: Keep) -> None:
    kit = await keeping(1, None, 2)
    await fill(kit, "b", "one", "two")
    await work(kit, dead=1)
    lone = await kit.enqueue(idempotency_key="k")
    await work(kit, dead=1)
    await pass_days(kit, 1_000)
    assert await kit.counts("b") == {"completed": 1, "deadletter": 1}
    kit = await keeping_on(keeping, kit, 1, None, 2, 2_000)
    await pass_days(kit, 999)
    assert await kit.counts("b") == {"completed": 1, "deadletter": 1}
    assert (await kit.job(lone)).payload
    await pass_days(kit, 2)
    assert not await is_there(kit, "b")
    assert await kit.queue_counts() == {}
    assert (await kit.store.enqueue(ORGANIZATION, new_job(idempotency_key="k"))).created


async def keeping_on(keeping: Keep, kit: StoreKit, *days: float | None) -> StoreKit:
    """The same store with another retention."""
    await kit.store.close()
    again = await keeping(*days)
    kit.store = again.store
    return again


async def test_dead_letters_alone_may_have_a_time(keeping: Keep) -> None:
    kit = await keeping(None, None, None, 5)
    await kit.enqueue(idempotency_key="k")
    await fill(kit, "b", "one")
    await work(kit, dead=2)
    await pass_days(kit, 4)
    assert await kit.queue_counts() == {"deadletter": 2}
    await pass_days(kit, 2)
    # The batch has no time, so it keeps its own.
    assert await kit.queue_counts() == {"deadletter": 1}
    assert await kit.counts("b") == {"deadletter": 1}


async def test_a_retry_and_new_rows_begin_its_time_again(keeping: Keep) -> None:
    kit = await keeping(1, None, 10, 10)
    await fill(kit, "retried", "one", "two")
    await work(kit, dead=2)
    await fill(kit, "redriven", "five")
    await work(kit, dead=1)
    await fill(kit, "grown", "three")
    await work(kit)
    await kit.store.depths(10)
    kit.clock.advance(20 * DAY)
    # At the last moment, before anything swept.
    assert (await kit.store.retry(ORGANIZATION, BatchSelector("retried"), "")).retried == 2
    assert (await kit.store.retry(ORGANIZATION, QueueSelector("q"), "")).retried == 1
    await kit.open_batch("grown")
    assert await kit.add("grown", "three", "four", number=1) == (1, [0])
    await kit.store.seal_batch(ORGANIZATION, "grown")
    await sweep(kit)
    assert await kit.counts("retried") == {"pending": 2}
    assert await kit.counts("redriven") == {"pending": 1}
    assert await kit.counts("grown") == {"completed": 1, "pending": 1}
    await work(kit)
    await pass_days(kit, 9)
    for batch_id in ("retried", "redriven", "grown"):
        assert await is_there(kit, batch_id)
    await pass_days(kit, 2)
    for batch_id in ("retried", "redriven", "grown"):
        assert not await is_there(kit, batch_id)


async def test_a_table_that_is_sent_again_keeps_its_batch_meanwhile(keeping: Keep) -> None:
    kit = await keeping(1, None, 10)
    await fill(kit, "b", "one", "two")
    await work(kit)
    await pass_days(kit, 9)
    # Opened today, its rows come two days later: all of them are there.
    await kit.open_batch("b")
    await pass_days(kit, 2)
    assert await kit.add("b", "one", number=1) == (0, [0])
    await pass_days(kit, 9)
    assert await kit.add("b", "two", number=2) == (0, [0])
    await pass_days(kit, 11)
    assert not await is_there(kit, "b")


async def test_a_job_stays_while_another_batch_has_it(keeping: Keep) -> None:
    kit = await keeping(1, 5, 10)
    (single,) = chunk("b", ["single"]).keys
    lone = await kit.enqueue(idempotency_key=single)
    await fill(kit, "first", "one", "two", "single")
    await work(kit)
    await kit.open_batch("second")
    assert await kit.add("second", "two", "three") == (1, [0])
    await kit.open_batch("third")
    assert await kit.add("third", "two") == (0, [0])
    await kit.store.seal_batch(ORGANIZATION, "third")
    await pass_days(kit, 11)
    assert not await is_there(kit, "first")
    assert not await is_there(kit, "third")
    # What only the first batch had is gone; what a single call made goes by its own time.
    await pass_days(kit, 0.1)
    assert await kit.counts("second") == {"completed": 1, "pending": 1}
    page = await kit.store.jobs(ORGANIZATION, BatchJobs("second", (), 0, 10, False))
    assert [job.status for job in page.jobs] == [4, 1]
    with refused("NOT_FOUND"):
        await kit.job(lone)
    assert await kit.add("second", "two", number=1) == (0, [0])
    assert await kit.add("second", "one", number=2) == (1, [])
    await work(kit)
    await kit.store.seal_batch(ORGANIZATION, "second")
    await pass_days(kit, 11)
    assert await kit.queue_counts() == {}


async def test_generations_go_one_by_one_and_the_newest_last(keeping: Keep) -> None:
    kit = await keeping(1, None, 10)
    await fill(kit, "b", "old")
    (job,) = await kit.claim(1, seconds=3_600)
    await fill(kit, "b", "new", generation=1)
    (other,) = await kit.claim(1)
    await kit.complete(other)
    await kit.store.renew(ORGANIZATION, holder(job), 100 * DAY * 1000)
    await pass_days(kit, 20)
    # An older generation still has a job that runs.
    assert await kit.counts("b") == {"completed": 1}
    await settle_one(kit.store, ORGANIZATION, holder(job), Completion(None))
    await pass_days(kit, 11)
    assert not await is_there(kit, "b")
    assert await kit.queue_counts() == {}
    await kit.open_batch("b")
    assert await kit.add("b", "old", "new") == (2, [])


async def test_a_large_batch_is_gone_at_once_and_its_jobs_in_steps(keeping: Keep) -> None:
    kit = await keeping(1, None, 10)
    count = 2 * STEP_JOBS + 500
    await fill(kit, "b", *map(str, range(count)))
    await kit.store.cancel(ORGANIZATION, BatchSelector("b", None))
    await pass_days(kit, 2)
    kit.clock.advance(9 * DAY)
    moment = await kit.store.sweep()
    assert moment is not None
    assert 0 < moment - kit.clock.now() < 1_000
    assert not await is_there(kit, "b")
    assert await kit.queue_counts() == {"cancelled": count - STEP_JOBS}
    assert await kit.store.recount() == []
    # Who wants the name again waits for the rest to go: no row finds an old job.
    await kit.open_batch("b")
    assert await kit.queue_counts() == {}
    assert await kit.add("b", *map(str, range(10))) == (10, [])


async def test_what_is_being_forgotten_can_no_longer_be_changed(keeping: Keep) -> None:
    kit = await keeping(1, None, 10, 10)
    await fill(kit, "b", *map(str, range(STEP_JOBS + 50)))
    await work(kit, dead=STEP_JOBS + 50)
    await kit.open_batch("other")
    last = str(STEP_JOBS + 49)
    kit.clock.advance(11 * DAY)
    assert await kit.add("other", last) == (0, [0])
    await kit.store.sweep()
    with refused("NOT_FOUND", "there is no batch 'b'"):
        await kit.store.retry(ORGANIZATION, BatchSelector("b"), "")
    with refused("NOT_FOUND", "there is no batch 'b'"):
        await kit.store.cancel(ORGANIZATION, BatchSelector("b", None))
    with refused("NOT_FOUND", "there is no batch 'b'"):
        await kit.store.seal_batch(ORGANIZATION, "b")
    with refused("NOT_FOUND", "there is no batch 'b'"):
        await kit.add("b", "new", number=9)
    # Of its dead letters only the one comes back that another batch has too.
    assert (await kit.queue_counts())["deadletter"] == 50
    assert (await kit.store.retry(ORGANIZATION, QueueSelector("q"), "")).retried == 1
    assert await kit.counts("other") == {"pending": 1}
    await sweep(kit)
    assert await kit.queue_counts() == {"pending": 1}
    await work(kit)
    assert await kit.counts("other") == {"completed": 1}


async def test_a_number_that_was_a_batchs_is_not_anothers(keeping: Keep) -> None:
    kit = await keeping(1, None, 1)
    for day in range(3):
        await fill(kit, f"b{day}", "row")
        await work(kit)
        kit.changed()
        await pass_days(kit, 2)
        assert kit.changed().batches == {(ORGANIZATION, f"b{day}")}
        await kit.reopen()
        await fill(kit, "later", "row")
        await work(kit)
        assert (ORGANIZATION, "later") in kit.changed().batches
        await pass_days(kit, 2)


async def test_open_batches_are_told_by_queue(keeping: Keep) -> None:
    kit = await keeping()
    began = kit.clock.now()
    await kit.open_batch("filling")
    kit.clock.advance(60)
    await fill(kit, "working", "one", "two")
    await fill(kit, "done", "three")
    await work(kit)
    assert (await kit.store.depths(10)).open_batches == [
        OpenBatches(ORGANIZATION, "q", 1, 0, began)
    ]
    await fill(kit, "working", "four")
    await kit.open_batch("elsewhere", "r")
    assert (await kit.store.depths(10)).open_batches == [
        OpenBatches(ORGANIZATION, "q", 1, 1, began),
        OpenBatches(ORGANIZATION, "r", 1, 0, kit.clock.now()),
    ]


async def test_a_retried_batch_is_open_again(keeping: Keep) -> None:
    kit = await keeping()
    await fill(kit, "b", "one")
    await fill(kit, "c", "two")
    await work(kit, dead=2)
    assert (await kit.store.depths(10)).open_batches == []
    await kit.store.retry(ORGANIZATION, BatchSelector("b"), "")
    ((_, _, filling, working, _),) = (await kit.store.depths(10)).open_batches
    assert (filling, working) == (0, 1)
    await kit.store.retry(ORGANIZATION, QueueSelector("q"), "")
    ((_, _, filling, working, _),) = (await kit.store.depths(10)).open_batches
    assert (filling, working) == (0, 2)
    assert (await kit.store.depths(0)).open_batches == []
    await fill(kit, "b", "one")
    await work(kit)
    assert (await kit.store.depths(10)).open_batches == []


async def test_whatever_happens_at_the_same_time_no_job_is_lost_or_counted_wrong(
    keeping: Keep,
) -> None:
    """Batches share rows, are sent again, retried and redriven while others are forgotten."""
    kit = await keeping(0, 0, 0, 0)
    chance = random.Random(7)
    names = [f"row{number}" for number in range(12)]
    over = asyncio.Event()

    async def send(batch_id: str) -> None:
        for number in range(25):
            opening = BatchOpening(batch_id, "q", "")
            try:
                await kit.store.open_batch(ORGANIZATION, opening)
                rows = chunk(batch_id, chance.sample(names, 4), upload_id=f"{number}")
                await kit.store.add_chunk(ORGANIZATION, rows)
                await kit.store.seal_batch(ORGANIZATION, batch_id)
                await kit.store.retry(ORGANIZATION, BatchSelector(batch_id), "")
                await kit.store.retry(ORGANIZATION, QueueSelector("q"), "")
            except RefusedError as refusal:
                # With no time at all it may be gone between two calls.
                if refusal.message != f"there is no batch {batch_id!r}":
                    raise

    async def settle() -> None:
        while not over.is_set():
            await work(kit, dead=chance.randint(0, 2))
            await asyncio.sleep(0)

    async def prune() -> None:
        while not over.is_set():
            kit.clock.advance(61)
            await kit.store.sweep()

    helpers = [asyncio.create_task(settle()), asyncio.create_task(prune())]
    try:
        await asyncio.gather(*(send(batch_id) for batch_id in "abc"))
    finally:
        over.set()
        await asyncio.gather(*helpers)
    assert await kit.store.recount() == []
    await work(kit)
    await pass_days(kit, 1)
    await pass_days(kit, 1)
    left = {batch_id for batch_id in "abc" if await is_there(kit, batch_id)}
    # What was left unsealed is all that may be there still.
    for batch_id in left:
        (record,) = await kit.store.batches(ORGANIZATION, [batch_id])
        assert not record.sealed


def test_times_that_make_no_sense_are_named() -> None:
    for times in (("7d", None, "1d"), (None, None, "7d")):
        with pytest.raises(ValueError, match="batches must be kept at least as long"):
            retention_of(*times)
    with pytest.raises(ValueError, match="dead letters cannot be kept for -1"):
        Retention(dead_letters=-1)
