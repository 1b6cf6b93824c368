"""At most so many jobs with a key run at once, no matter who takes them or dies with them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from spooled_pipelines.server.core.jobs.records import JobRecord
from spooled_pipelines.server.core.jobs.settlements import Failure
from spooled_pipelines.server.core.jobs.turns import key_number
from spooled_pipelines.server.core.upkeep import key_upkeep
from spooled_pipelines.server.store.postgres.upkeep import key_upkeep as postgres_upkeep
from spooled_pipelines.server.store.requests import BatchSelector
from spooled_pipelines.server.store.sqlite.upkeep import key_upkeep as sqlite_upkeep
from spooled_pipelines.wire.well_known import Struct
from tests.support.store_kit import (
    ORGANIZATION,
    StoreKit,
    chunk,
    execute,
    give_back,
    holder,
    settle_one,
)


async def fill(kit: StoreKit, batch_id: str, keys: str, most: int = 2, **changes: Any) -> None:
    """A batch with a job for each letter; "-" has no key."""
    await kit.open_batch(batch_id)
    names = [f"{key} {batch_id} {row}" for row, key in enumerate(keys)]
    numbers = [None if key == "-" else key_number("customer", key) for key in keys]
    limited = chunk(batch_id, names, limit_keys=numbers, limit_per_key=most, **changes)
    await kit.store.add_chunk(ORGANIZATION, limited)


def key(job: JobRecord) -> str:
    return str(Struct.FromString(job.payload or b"")["name"])[0]


async def claimed(kit: StoreKit) -> tuple[list[JobRecord], str]:
    jobs: list[JobRecord] = []
    # One whose worker died comes alone.
    while more := await kit.claim(100):
        jobs += more
    return jobs, "".join(sorted(map(key, jobs)))


async def upkeep(kit: StoreKit) -> None:
    """Sweep until all keys were looked after."""
    kit.clock.advance(60)
    for _ in range(12):
        await kit.store.sweep()
        kit.clock.advance(0.1)


def limited(url: str) -> set[int]:
    return {number for (number,) in execute(url, "SELECT key FROM key_limits")}


def numbers(keys: str) -> set[int]:
    return {key_number("customer", name) for name in keys}


async def fail(kit: StoreKit, job: JobRecord, retry: bool) -> None:
    await settle_one(kit.store, ORGANIZATION, holder(job), Failure("no", retry=retry))


async def test_of_each_key_so_many_are_out_over_all_batches_and_the_next_follows(
    kit: StoreKit,
) -> None:
    await fill(kit, "b1", "aaab-")
    await fill(kit, "b2", "aabbb--")
    assert await kit.counts("b2") == {"pending": 7, "waiting": 4}
    jobs, keys = await claimed(kit)
    assert keys == "---aabb"
    assert (await claimed(kit))[1] == ""
    first, second = (job for job in jobs if key(job) == "a")
    await kit.complete(first)
    assert kit.changed().ready_queues
    (next_one,), keys = await claimed(kit)
    assert keys == "a"
    # Gone for good, or until its retry: another takes the place.
    await fail(kit, second, retry=False)
    await fail(kit, next_one, retry=True)
    assert (await claimed(kit))[1] == "aa"
    assert await kit.store.recount() == []


async def test_what_is_given_back_or_whose_worker_died_keeps_its_place(kit: StoreKit) -> None:
    await fill(kit, "b", "aaaa")
    jobs, _ = await claimed(kit)
    await give_back(kit.store, ORGANIZATION, [holder(jobs[0])])
    again, keys = await claimed(kit)
    assert (keys, again[0].job_id) == ("a", jobs[0].job_id)
    kit.clock.advance(31)
    await kit.store.sweep()
    assert [job.job_id for job in (await claimed(kit))[0]] == [job.job_id for job in jobs]
    # On their last try the places are others'.
    for _ in range(3):
        kit.clock.advance(31)
        await kit.store.sweep()
        last, keys = await claimed(kit)
        assert keys == "aa"
    assert {job.job_id for job in last}.isdisjoint(job.job_id for job in jobs)
    assert await kit.store.recount() == []


async def test_retries_schedules_and_dead_letters_wait_for_places_too(kit: StoreKit) -> None:
    await fill(kit, "b", "aa", most=1)
    (first,), _ = await claimed(kit)
    await fail(kit, first, retry=True)
    await claimed(kit)
    later = [kit.clock.now() + 30_000] * 2
    await fill(kit, "later", "aa", most=1, scheduled_at=later)
    kit.clock.advance(61)
    await kit.store.sweep()
    # The lease of the second has run out as well: of both, which run no longer, the first is next.
    jobs, _ = await claimed(kit)
    assert [job.job_id for job in jobs] == [first.job_id]
    await fail(kit, jobs[0], retry=False)
    for _ in range(3):
        (job,), _ = await claimed(kit)
        await kit.complete(job)
    await kit.store.retry(ORGANIZATION, BatchSelector("b"))
    assert [job.job_id for job in await kit.claim(5)] == [first.job_id]
    assert await kit.store.recount() == []


async def test_a_place_is_that_of_the_job_that_goes_first_until_it_runs(kit: StoreKit) -> None:
    await fill(kit, "low", "aaab", most=2)
    (running,) = await kit.claim(1)
    await fill(kit, "high", "aa", most=2, priorities=5)
    assert (await kit.counts("low"))["waiting"] == (await kit.counts("high"))["pending"] == 2
    assert (await kit.counts("high"))["waiting"] == 1
    jobs, keys = await claimed(kit)
    assert (keys, [job.priority for job in jobs]) == ("ab", [5, 0])
    await kit.complete(running)
    assert [job.priority for job in (await claimed(kit))[0]] == [5]
    await kit.complete(jobs[0])
    # None beyond a limit that became smaller.
    await fill(kit, "less", "a", most=1)
    assert await claimed(kit) == ([], "")
    assert await kit.store.recount() == []


async def test_what_is_cancelled_makes_room(kit: StoreKit) -> None:
    await fill(kit, "b1", "aaa")
    await fill(kit, "b2", "aaa")
    await kit.store.cancel(ORGANIZATION, BatchSelector("b1"))
    jobs, keys = await claimed(kit)
    assert keys == "aa"
    assert await kit.counts("b2") == {"pending": 1, "waiting": 1, "processing": 2}
    await fill(kit, "b3", "a", most=3)
    assert (await claimed(kit))[1] == "a"
    await fill(kit, "b4", "a", most=1)
    await kit.complete(jobs[0])
    await kit.complete(jobs[1])
    assert (await claimed(kit))[1] == ""


async def test_many_at_once_never_have_more_of_a_key(kit: StoreKit) -> None:
    for number in range(4):
        await fill(kit, f"b{number}", "abc" * 10, most=2)
    running: Counter[str] = Counter()
    done = 0

    async def work(name: str) -> None:
        nonlocal done
        while done < 120:
            jobs = await kit.claim(3, worker=name)
            running.update(map(key, jobs))
            assert max(running.values()) <= 2
            await asyncio.sleep(0)
            for job in jobs:
                running[key(job)] -= 1
                await kit.complete(job)
                done += 1

    await asyncio.gather(*(work(f"w{number}") for number in range(5)))
    assert await kit.queue_counts() == {"completed": 120}


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (key_upkeep, postgres_upkeep, sqlite_upkeep):
        monkeypatch.setattr(module, "STEP_KEYS", 2)


@pytest.mark.usefixtures("small_steps")
async def test_limits_of_keys_go_that_no_job_needs(kit: StoreKit, store_url: str) -> None:
    await fill(kit, "b", "abcdeefgg", most=1)
    jobs, keys = await claimed(kit)
    assert keys == "abcdefg"
    for job in jobs:
        if key(job) in "bc":
            await fail(kit, job, retry=key(job) == "c")
        elif key(job) in "aeg":
            await kit.complete(job)
    await fill(kit, "cancelled", "h", most=1)
    await kit.store.cancel(ORGANIZATION, BatchSelector("cancelled"))
    await upkeep(kit)
    # Dead letters and cancelled jobs may be retried.
    assert limited(store_url) == numbers("bcdefgh")
    await kit.store.retry(ORGANIZATION, BatchSelector("b"))
    await fill(kit, "again", "bbaa", most=1)
    while (more := await claimed(kit))[0]:
        assert len(set(more[1])) == len(more[1])
        for job in more[0]:
            await kit.complete(job)
    await upkeep(kit)
    assert limited(store_url) == numbers("h")
    await fill(kit, "once more", "aa", most=1)
    assert (await claimed(kit))[1] == "a"


@pytest.mark.usefixtures("small_steps")
async def test_turns_of_keys_go_once_they_change_nothing(kit: StoreKit, store_url: str) -> None:
    def turns() -> list[tuple[Any, ...]]:
        return execute(store_url, "SELECT DISTINCT participant FROM turns WHERE participant < 0")

    await kit.open_batch("b")
    names = [f"{row} {row % 7}" for row in range(140)]
    by = [key_number("customer", name[-1]) for name in names]
    await kit.store.add_chunk(ORGANIZATION, chunk("b", names, fair_keys=by))
    await kit.claim(130, seconds=3_600)
    await upkeep(kit)
    # Their next jobs come after those that wait.
    assert len(turns()) == 7
    await kit.claim(100, seconds=3_600)
    await upkeep(kit)
    assert turns() == []
