"""What settled long ago loses its payload, later its row; counters stay right throughout."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.jobs.settlements import Completion, Failure
from spooled_pipelines.server.core.upkeep.retention import (
    STEP_JOBS,
    Retention,
    retention_of,
    seconds_of,
)
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.requests import BatchJobs, BatchSelector
from tests.support.store_kit import (
    ORGANIZATION,
    StoreKit,
    chunk,
    holder,
    new_job,
    settle_one,
    struct,
)

DAY = 86_400
PAYLOAD = struct(text="x" * 1_000)


@pytest.fixture
async def keeping(store_url: str) -> AsyncIterator[StoreKit]:
    """Keeps payloads for a day, and keys for ten."""
    kit = StoreKit(lambda clock: open_store(store_url, clock, Retention(DAY, 10 * DAY)))
    await kit.open()
    yield kit
    assert await kit.store.recount() == []
    await kit.store.close()


async def complete_one(kit: StoreKit, **job: Any) -> str:
    job_id = await kit.enqueue(payload=PAYLOAD, **job)
    claimed = await kit.claim_one()
    await settle_one(kit.store, ORGANIZATION, holder(claimed), Completion(struct(answer=42)))
    assert claimed.job_id == job_id
    return job_id


async def sweep(kit: StoreKit) -> None:
    """As the timer does it: again and again while there is more."""
    while (moment := await kit.store.sweep()) is not None and moment - kit.clock.now() < 1_000:
        kit.clock.advance((moment - kit.clock.now()) / 1000)


async def pass_days(kit: StoreKit, days: float) -> None:
    kit.clock.advance(days * DAY)
    await sweep(kit)


async def test_payload_and_result_go_after_their_time_and_the_job_stays(keeping: StoreKit) -> None:
    job_id = await complete_one(keeping, idempotency_key="k")
    await pass_days(keeping, 0.9)
    job = await keeping.job(job_id)
    assert (job.payload, job.result) == (PAYLOAD, struct(answer=42))
    await pass_days(keeping, 0.2)
    job = await keeping.job(job_id)
    assert (job.status, job.payload, job.result) == (Status.COMPLETED, b"", None)
    assert await keeping.queue_counts() == {"completed": 1}
    # The key is remembered for longer: the same job again is still the same job.
    again = await keeping.store.enqueue(ORGANIZATION, new_job(idempotency_key="k"))
    assert again == (job_id, False)


async def test_keys_go_after_their_own_time_and_leave_the_counters_right(keeping: StoreKit) -> None:
    job_id = await complete_one(keeping, idempotency_key="k")
    await pass_days(keeping, 2)
    await pass_days(keeping, 7)
    assert await keeping.queue_counts() == {"completed": 1}
    await pass_days(keeping, 2)
    assert await keeping.queue_counts() == {}
    assert await keeping.store.recount() == []
    again = await keeping.store.enqueue(ORGANIZATION, new_job(idempotency_key="k"))
    assert again.created
    assert again.job_id != job_id


async def test_a_batch_keeps_its_statistics_its_keys_and_its_list(keeping: StoreKit) -> None:
    await keeping.open_batch("b")
    await keeping.add("b", "one", "two")
    for job in await keeping.claim(2):
        await keeping.complete(job)
    single = await complete_one(keeping, idempotency_key="single")
    await pass_days(keeping, 2)
    await pass_days(keeping, 20)
    assert await keeping.counts("b") == {"completed": 2}
    assert await keeping.add("b", "one", "three", number=1) == (1, [0])
    page = await keeping.store.jobs(ORGANIZATION, BatchJobs("b", (), 0, 10, False))
    assert [job.payload for job in page.jobs[:2]] == [b"", b""]
    with pytest.raises(Exception, match="there is no job"):
        await keeping.job(single)


async def test_what_still_runs_waits_or_is_dead_is_never_touched(keeping: StoreKit) -> None:
    dead = await keeping.enqueue(payload=PAYLOAD)
    claimed = await keeping.claim_one()
    await settle_one(keeping.store, ORGANIZATION, holder(claimed), Failure("broken", False))
    running = await keeping.enqueue(payload=PAYLOAD)
    await keeping.claim(1, seconds=100 * DAY)
    later = keeping.clock.now() + 200 * DAY * 1000
    scheduled = await keeping.enqueue(payload=PAYLOAD, scheduled_at=later)
    waiting = await keeping.enqueue(payload=PAYLOAD)
    await pass_days(keeping, 2)
    await pass_days(keeping, 20)
    for job_id in (dead, running, scheduled, waiting):
        assert (await keeping.job(job_id)).payload == PAYLOAD


async def test_it_goes_in_small_steps_that_leave_others_their_turn(keeping: StoreKit) -> None:
    await keeping.open_batch("b")
    count = STEP_JOBS + 500
    await keeping.add("b", *map(str, range(count)))
    await keeping.store.cancel(ORGANIZATION, BatchSelector("b", None))
    keeping.clock.advance(2 * DAY)
    moment = await keeping.store.sweep()
    pages = await keeping.store.jobs(ORGANIZATION, BatchJobs("b", (), 0, 5_000, False))
    assert sum(job.payload == b"" for job in pages.jobs) == STEP_JOBS
    assert moment is not None
    assert 0 < moment - keeping.clock.now() < 1_000
    await sweep(keeping)
    pages = await keeping.store.jobs(ORGANIZATION, BatchJobs("b", (), 0, 5_000, False))
    assert sum(job.payload == b"" for job in pages.jobs) == count


async def test_a_key_that_is_forgotten_just_now_makes_a_job_or_finds_one(store_url: str) -> None:
    kit = StoreKit(lambda clock: open_store(store_url, clock, Retention(0, 0)))
    await kit.open()
    names = ["a", "b", "c", "d"]
    chance = random.Random(3)
    created: list[str] = []
    answered: set[str] = set()
    is_over = False

    async def enqueue() -> None:
        for _ in range(60):
            (key,) = chunk("b", [chance.choice(names)]).keys
            job = await kit.store.enqueue(ORGANIZATION, new_job(idempotency_key=key))
            answered.add(job.job_id)
            if job.created:
                created.append(job.job_id)

    async def add_chunks(upload_id: str) -> None:
        for number in range(20):
            rows = chunk("b", chance.sample(names, 3), number=number, upload_id=upload_id)
            stored = await kit.store.add_chunk(ORGANIZATION, rows)
            assert stored.rows == 3
            seqs = stored.seqs or range(stored.first or 0, (stored.first or 0) + 3)
            ids = [kit.job_id(seq) for seq in seqs]
            answered.update(ids)
            created.extend(ids[row] for row in range(3) if row not in set(stored.duplicates))

    async def work() -> None:
        while not is_over:
            for job in await kit.claim(5):
                await kit.complete(job)
            kit.clock.advance(61)
            await kit.store.sweep()

    await kit.open_batch("b")
    worker = asyncio.create_task(work())
    await asyncio.gather(enqueue(), enqueue(), enqueue(), add_chunks("u"))
    is_over = True
    await worker
    # Every answer named a job that somebody made, and no job was made twice.
    assert len(created) == len(set(created))
    assert answered <= set(created)
    assert await kit.store.recount() == []
    await kit.store.close()


async def test_without_a_time_everything_is_kept(kit: StoreKit) -> None:
    job_id = await complete_one(kit)
    kit.clock.advance(10_000 * DAY)
    assert await kit.store.sweep() is None
    assert (await kit.job(job_id)).payload == PAYLOAD


def test_durations_are_read_and_nonsense_is_named() -> None:
    assert [seconds_of(text) for text in ("90s", "30m", "1d 12h", "7d")] == [
        90,
        1_800,
        1.5 * DAY,
        7 * DAY,
    ]
    for text in ("7", "1d 12", "7 days", "-1d", "", "d"):
        with pytest.raises(ValueError, match="write 90s"):
            seconds_of(text)
    for settled, keys in (("7d", "1d"), (None, "7d")):
        with pytest.raises(ValueError, match="at least as long"):
            retention_of(settled, keys)


async def test_what_was_cancelled_and_lost_its_payload_stays_cancelled_and_is_named(
    keeping: StoreKit,
) -> None:
    await keeping.open_batch()
    await keeping.add("b", "stripped")
    await keeping.store.cancel(ORGANIZATION, BatchSelector("b"))
    await pass_days(keeping, 1.1)
    await keeping.add("b", "kept", number=1)
    await keeping.store.cancel(ORGANIZATION, BatchSelector("b"))
    outcome = await keeping.store.retry(ORGANIZATION, BatchSelector("b"), "", cancelled=True)
    assert (outcome.retried, outcome.stripped) == (1, 1)
    (job,) = [await keeping.job(job_id) for job_id in outcome.stripped_job_ids]
    assert (job.status, job.payload) == (Status.CANCELLED, b"")
    assert [job.payload for job in await keeping.claim(10)] == [struct(name="kept")]
