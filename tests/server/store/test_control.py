"""Generations, cancel, retry and attempts, in both stores alike."""

from __future__ import annotations

from typing import Any

import pytest

from spooled_pipelines.server.core.batches.records import BatchOpening, BatchRecord
from spooled_pipelines.server.core.jobs.records import AttemptRecord, Counts, JobRecord
from spooled_pipelines.server.core.jobs.settlements import Ending, Failure
from spooled_pipelines.server.store.requests import BatchJobs, BatchSelector
from tests.support.store_kit import (
    ORGANIZATION,
    StoreKit,
    chunk,
    give_back,
    holder,
    refused,
    settle_one,
)


async def record(kit: StoreKit, batch_id: str = "b") -> BatchRecord:
    (found,) = await kit.store.batches(ORGANIZATION, [batch_id])
    return found


async def begin(kit: StoreKit, generation: int, **changes: str) -> BatchRecord:
    values: dict[str, Any] = {"batch_id": "b", "queue_name": "q", "name": "", **changes}
    opening = BatchOpening(**values)._replace(generation=generation)
    return await kit.store.open_batch(ORGANIZATION, opening)


async def cancel(kit: StoreKit, generation: int | None = None) -> dict[str, int]:
    counts: Counts = (await kit.store.cancel(ORGANIZATION, BatchSelector("b", generation))).counts
    return {name: count for name, count in counts._asdict().items() if count}


async def bury(kit: StoreKit, error: str = "boom") -> JobRecord:
    job = await kit.claim_one()
    await settle_one(kit.store, ORGANIZATION, holder(job), Failure(error, False))
    return job


async def listed(kit: StoreKit, batch_id: str = "b") -> list[JobRecord]:
    return (await kit.store.jobs(ORGANIZATION, BatchJobs(batch_id, (), 0, 100, False))).jobs


async def test_a_cancel_takes_what_has_not_started_and_nothing_else(kit: StoreKit) -> None:
    await kit.open_batch()
    due = kit.clock.now() + 60_000
    await kit.add("b", "done", "dead", "runs", "waits", "ready")
    await kit.add("b", "later", number=1, scheduled_at=[due])
    await kit.complete(await kit.claim_one())
    await bury(kit)
    running = await kit.claim_one()
    await settle_one(
        kit.store, ORGANIZATION, holder(await kit.claim_one()), Failure("once more", True)
    )
    await kit.store.seal_batch(ORGANIZATION, "b")
    kit.changed()
    kit.clock.advance(1)
    expected = {"processing": 1, "completed": 1, "deadletter": 1, "cancelled": 3}
    assert await cancel(kit) == expected
    assert await kit.counts() == expected
    assert await kit.queue_counts() == expected
    assert kit.changed().batches == {(ORGANIZATION, "b")}
    kit.clock.advance(3600)
    await kit.store.sweep()
    # What ran goes on; its lease ran out just now, so it comes back, and nothing else does.
    assert [job.job_id for job in await kit.claim(10)] == [running.job_id]
    cancelled = [job for job in await listed(kit) if job.status == 7]
    assert {job.completed_at is not None for job in cancelled} == {True}


async def test_a_cancelled_batch_is_settled_once_what_runs_is_done(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "x", "y")
    job = await kit.claim_one()
    await kit.store.seal_batch(ORGANIZATION, "b")
    await cancel(kit)
    assert not (await record(kit)).settled
    await kit.complete(job)
    assert (await record(kit)).settled
    # Again, it changes nothing.
    assert await cancel(kit) == {"completed": 1, "cancelled": 1}


async def test_a_cancelled_job_is_cancelled_in_every_batch_that_it_is_in(kit: StoreKit) -> None:
    await kit.open_batch("a")
    await kit.add("a", "shared", "own")
    await kit.enqueue()
    await kit.open_batch("b")
    await kit.add("b", "shared", "x")
    assert await cancel(kit) == {"cancelled": 2}
    assert await kit.counts("a") == {"pending": 1, "cancelled": 1}
    assert await kit.queue_counts() == {"pending": 2, "cancelled": 2}


async def test_a_late_cancel_hits_no_newer_generation(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "x", "y")
    await begin(kit, 1)
    await kit.add("b", "x2", "y2", "z2", generation=1)
    assert await cancel(kit, 0) == {"cancelled": 2}
    assert await kit.counts() == {"pending": 3}
    assert await kit.queue_counts() == {"pending": 3, "cancelled": 2}
    assert await cancel(kit) == {"cancelled": 5}


async def test_a_batch_is_its_newest_generation(kit: StoreKit) -> None:
    await begin(kit, 0, name="flights")
    await kit.add("b", "x", "y")
    old = await kit.claim_one()
    await kit.store.seal_batch(ORGANIZATION, "b")
    kit.changed()
    began = await begin(kit, 3)
    assert kit.changed().batches == {(ORGANIZATION, "b")}
    assert (began.generation, began.name, began.sealed) == (3, "flights", False)
    assert began.counts.total == 0
    assert (await kit.add("b", "x3", generation=3)) == (1, [])
    await kit.complete(old)
    assert await kit.counts() == {"pending": 1}
    assert [job.seq for job in await listed(kit)] == [3]
    assert (await kit.store.seal_batch(ORGANIZATION, "b", 3)).sealed
    # Found again, not begun again.
    assert (await begin(kit, 3)).counts.total == 1
    assert (await begin(kit, 3, name="planes")).name == "planes"


async def test_no_upload_of_an_older_generation_goes_on(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "x")
    await begin(kit, 1)
    text = "generation 0 was meant, and the newest is 1"
    with refused("FAILED_PRECONDITION", text):
        await begin(kit, 0)
    with refused("FAILED_PRECONDITION", text):
        await kit.add("b", "y", number=1)
    with refused("FAILED_PRECONDITION", text):
        await kit.store.seal_batch(ORGANIZATION, "b", 0)
    with refused("FAILED_PRECONDITION", "has no generation 2 yet"):
        await kit.store.add_chunk(ORGANIZATION, chunk("b", ["y"], generation=2))
    with refused("FAILED_PRECONDITION", "is on queue 'q', not 'r'"):
        await begin(kit, 2, queue_name="r")
    assert (await record(kit)).generation == 1


async def test_dead_letters_go_back_with_all_their_retries(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "x", "y", max_retries=1)
    for error in ("first", "second"):
        dead = await kit.claim_one()
        await settle_one(kit.store, ORGANIZATION, holder(dead), Failure(error, True))
        kit.clock.advance(61)
        await kit.store.sweep()
    await kit.complete(await kit.claim_one())
    await kit.store.seal_batch(ORGANIZATION, "b")
    assert (await record(kit)).settled
    kit.changed()
    assert (await kit.store.retry(ORGANIZATION, BatchSelector("b"), "")).retried == 1
    changes = kit.changed()
    assert changes.batches == {(ORGANIZATION, "b")}
    assert changes.ready_queues == {(ORGANIZATION, "q")}
    found = await record(kit)
    assert (found.settled, found.sealed, found.top_errors) == (False, True, ())
    job = await kit.job(dead.job_id)
    assert (job.status, job.retry_count, job.completed_at, job.last_error) == (1, 0, None, "second")
    again = await kit.claim_one()
    outcome = await settle_one(kit.store, ORGANIZATION, holder(again), Failure("third", True))
    assert outcome.will_retry
    assert (await kit.store.retry(ORGANIZATION, BatchSelector("b"), "")).retried == 0


async def test_what_was_cancelled_goes_back_where_that_is_asked_for(kit: StoreKit) -> None:
    await kit.open_batch()
    due = kit.clock.now() + 60_000
    await kit.add("b", "now", "later", scheduled_at=[None, due], max_retries=0)
    await kit.add("b", "dead", number=1, max_retries=0, priorities=5)
    await bury(kit)
    await kit.store.seal_batch(ORGANIZATION, "b")
    await cancel(kit)
    assert (await record(kit)).settled
    kit.changed()
    assert (
        await kit.store.retry(ORGANIZATION, BatchSelector("b"), "another error", True)
    ).retried == 2
    changes = kit.changed()
    assert (changes.due, changes.ready_queues) == (due, {(ORGANIZATION, "q")})
    assert await kit.counts() == {"pending": 1, "scheduled": 1, "deadletter": 1}
    assert not (await record(kit)).settled
    await kit.complete(await kit.claim_one())
    assert await kit.claim(1) == []
    kit.clock.advance(60)
    await kit.store.sweep()
    await kit.complete(await kit.claim_one())
    assert await kit.counts() == await kit.queue_counts() == {"completed": 2, "deadletter": 1}
    assert (await kit.store.retry(ORGANIZATION, BatchSelector("b"), "", True)).retried == 1


async def test_dead_letters_are_chosen_by_their_error(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "x", "y", "z", max_retries=0)
    for error in ("HTTP 503: busy", "HTTP 404: nothing there", "HTTP 503: away"):
        await bury(kit, error)
    assert (await kit.store.retry(ORGANIZATION, BatchSelector("b"), "503")).retried == 2
    assert (await record(kit)).top_errors == (("HTTP 404: nothing there", 1),)
    assert await kit.counts() == {"pending": 2, "deadletter": 1}
    assert (await kit.store.retry(ORGANIZATION, BatchSelector("b"), "%")).retried == 0


async def test_a_shared_dead_letter_is_retried_in_every_batch(kit: StoreKit) -> None:
    await kit.open_batch("a")
    await kit.add("a", "shared")
    await bury(kit)
    await kit.open_batch("b")
    await kit.add("b", "shared")
    assert (await record(kit)).top_errors == (("boom", 1),)
    assert (await kit.store.retry(ORGANIZATION, BatchSelector("b"), "")).retried == 1
    assert await kit.counts("a") == {"pending": 1}
    assert (await record(kit, "a")).top_errors == ()


async def test_every_attempt_is_kept(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "x", max_retries=1)
    start = kit.clock.now()
    first = await kit.claim_one(worker="one", seconds=10)
    runs = AttemptRecord(1, "one", start, None, None, None, None)
    assert await kit.store.attempts(ORGANIZATION, first.job_id) == [runs]
    kit.clock.advance(10)
    await kit.store.sweep()
    await settle_one(
        kit.store, ORGANIZATION, holder(await kit.claim_one(worker="two")), Failure("boom", True)
    )
    await kit.store.retry(ORGANIZATION, BatchSelector("b"), "")
    last = await kit.claim_one(worker="three")
    kit.clock.advance(2)
    await kit.complete(last)
    found = await kit.store.attempts(ORGANIZATION, first.job_id)
    assert [(a.number, a.worker_id, a.started_at - start, a.ended_at - start) for a in found] == [
        (1, "one", 0, 10_000),
        (2, "two", 10_000, 10_000),
        (3, "three", 10_000, 12_000),
    ]
    assert [a.error and a.error.split(":")[0] for a in found] == ["Lease expired", "boom", None]
    assert [a.ending for a in found] == [Ending.LOST, Ending.FAILED, Ending.COMPLETED]


async def test_a_claim_that_was_given_back_is_no_attempt(kit: StoreKit) -> None:
    job_id = await kit.enqueue()
    assert await kit.store.attempts(ORGANIZATION, job_id) == []
    await give_back(kit.store, ORGANIZATION, [holder(await kit.claim_one())])
    assert await kit.store.attempts(ORGANIZATION, job_id) == []


@pytest.mark.parametrize("jobs", [2_000, 2_001])
async def test_a_large_batch_is_cancelled_and_retried_in_steps(kit: StoreKit, jobs: int) -> None:
    await kit.open_batch()
    await kit.add("b", *(str(n) for n in range(jobs)), max_retries=0)
    while claimed := await kit.claim(500, seconds=5):
        assert len(claimed) == 500 or len(claimed) == jobs % 500
    kit.clock.advance(5)
    await kit.store.sweep()
    assert await kit.counts() == {"deadletter": jobs}
    assert (await kit.store.retry(ORGANIZATION, BatchSelector("b"), "Lease")).retried == jobs
    assert await kit.counts() == {"pending": jobs}
    assert await cancel(kit) == {"cancelled": jobs}
    assert await kit.claim(1) == []


async def test_another_organizations_batch_and_job_are_not_there(kit: StoreKit) -> None:
    await kit.open_batch()
    job_id = await kit.enqueue()
    for call in (
        kit.store.cancel("other", BatchSelector("b", None)),
        kit.store.retry("other", BatchSelector("b"), ""),
    ):
        with refused("NOT_FOUND", "no batch 'b'"):
            await call
    with refused("NOT_FOUND", "no job"):
        await kit.store.attempts("other", job_id)
