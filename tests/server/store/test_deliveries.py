"""Deliveries are counted beside attempts, and what no worker survives runs alone, and ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spooled_pipelines.server.core.jobs.records import JobRecord, Status
from spooled_pipelines.server.core.jobs.rules import MAX_DELIVERIES
from spooled_pipelines.server.core.jobs.settlements import Act, Death, Ending, Failure, GiveBack
from spooled_pipelines.server.store.postgres.reads import reading as postgres_reading
from spooled_pipelines.server.store.requests import BatchSelector, DeadWorker
from spooled_pipelines.server.store.sqlite.reads import reading as sqlite_reading
from tests.support.store_kit import ORGANIZATION, StoreKit, holder, settle_one

GIVEN_UP = GiveBack(begun=True)
DIED_ALONE, DIED = Death("killed", -9, others=0), Death("exited", 3, others=1)


async def end_one(kit: StoreKit, act: Act) -> str:
    job = await kit.claim_one()
    await settle_one(kit.store, ORGANIZATION, holder(job), act)
    return job.job_id


async def test_each_delivery_is_listed_with_how_it_ended(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "x", max_retries=9)
    for act in (GIVEN_UP, DIED, GiveBack(), DIED_ALONE, Failure("boom", True, 0)):
        job_id = await end_one(kit, act)
        kit.clock.advance(61)
    await kit.claim_one(seconds=5)
    kit.clock.advance(5)
    await kit.store.sweep()
    last = await kit.claim_one()
    await kit.complete(last)
    assert last.deliveries == 6
    found = await kit.store.attempts(ORGANIZATION, job_id)
    assert [(each.number, each.ending, each.exit_code, each.error) for each in found[:4]] == [
        (1, Ending.GIVEN_BACK, None, None),
        (2, Ending.DIED, 3, "exited"),
        (3, Ending.DIED, -9, "killed"),
        (4, Ending.FAILED, None, "boom"),
    ]
    assert [each.ending for each in found[4:]] == [Ending.LOST, Ending.COMPLETED]


@pytest.mark.parametrize("act", [GIVEN_UP, DIED])
async def test_what_is_never_finished_is_poison_in_the_end(kit: StoreKit, act: Act) -> None:
    await kit.open_batch()
    await kit.add("b", "x")
    for _ in range(MAX_DELIVERIES):
        job_id = await end_one(kit, act)
    job = await kit.job(job_id)
    assert (job.status, job.retry_count, job.deliveries) == (Status.DEADLETTER, 0, MAX_DELIVERIES)
    error = f"Poison: delivered {MAX_DELIVERIES} times without an outcome, and at last it "
    assert (job.last_error or "").startswith(error)
    [(grouped, count)] = (await kit.store.batches(ORGANIZATION, ["b"]))[0].top_errors
    assert (grouped.startswith("Poison: "), count) == (True, 1)
    assert len(await kit.store.attempts(ORGANIZATION, job_id)) == MAX_DELIVERIES
    flow = kit.changes.flows[ORGANIZATION, "q"]
    ending = "ended_given_back" if act is GIVEN_UP else "ended_worker_died"
    assert (flow[ending], flow["poisoned"]) == (MAX_DELIVERIES, 1)
    await kit.store.retry(ORGANIZATION, BatchSelector("b"))
    assert (await kit.claim_one()).deliveries == 1


async def test_retries_are_never_cut_short_by_deliveries(kit: StoreKit) -> None:
    await kit.enqueue(max_retries=MAX_DELIVERIES + 5)
    for _ in range(MAX_DELIVERIES + 5):
        await end_one(kit, Failure("boom", True, 0))
    # One try is left, so it is not lost by a worker that is told to end.
    job_id = await end_one(kit, GiveBack())
    assert (await kit.job(job_id)).status == Status.PENDING
    await end_one(kit, Failure("boom", True, 0))
    assert (await kit.job(job_id)).last_error == "boom"


async def test_what_was_not_begun_was_not_delivered(kit: StoreKit) -> None:
    await kit.enqueue()
    for _ in range(MAX_DELIVERIES + 1):
        job_id = await end_one(kit, GiveBack())
    assert (await kit.job(job_id)).deliveries == 0
    assert await kit.store.attempts(ORGANIZATION, job_id) == []


async def test_what_may_have_killed_its_worker_is_claimed_alone(kit: StoreKit) -> None:
    ids = [await kit.enqueue() for _ in range(5)]
    first = await kit.claim(3)
    await settle_one(kit.store, ORGANIZATION, holder(first[1]), DIED)
    for job in (first[0], first[2]):
        await settle_one(kit.store, ORGANIZATION, holder(job), GiveBack())
    assert [job.job_id for job in await kit.claim(10)] == [ids[0]]
    alone = await kit.claim(10)
    assert [(job.job_id, bool(job.run_alone)) for job in alone] == [(ids[1], True)]
    assert [job.job_id for job in await kit.claim(10)] == ids[2:]
    # A run that ends as runs do is no longer suspected.
    await settle_one(kit.store, ORGANIZATION, holder(alone[0]), Failure("boom", True, 0))
    assert not (await kit.claim_one()).run_alone


async def test_of_those_that_may_have_killed_their_worker_an_eighth_runs_together(
    kit: StoreKit,
) -> None:
    ids = [await kit.enqueue() for _ in range(20)]

    async def die(jobs: list[JobRecord]) -> list[bool]:
        death = Death("killed", -9, others=len(jobs) - 1)
        for job in jobs:
            await settle_one(kit.store, ORGANIZATION, holder(job), death)
        return [bool(job.run_alone) for job in jobs]

    assert await die(await kit.claim(17)) == [False] * 17
    assert await die(await kit.claim(20)) == [True] * 3
    found = []
    while jobs := await kit.claim(20):
        found.append([(ids.index(job.job_id), job.deliveries) for job in jobs])
    # Those that are suspected less do not fill up the places of the others, nor do innocents.
    assert found[:5] == [
        [(0, 3)],
        [(1, 3)],
        [(2, 3)],
        [(n, 2) for n in (3, 4, 5)],
        [(n, 2) for n in (6, 7, 8)],
    ]
    assert found[5:] == [
        [(n, 2) for n in (9, 10, 11)],
        [(n, 2) for n in (12, 13, 14)],
        [(15, 2), (16, 2)],
        [(n, 1) for n in (17, 18, 19)],
    ]


async def test_nobody_is_poison_for_having_been_beside_a_killer(kit: StoreKit) -> None:
    """So many together that parts would take more deliveries than there are."""
    await kit.enqueue(max_retries=0)
    (job,) = await kit.claim(1)
    await settle_one(kit.store, ORGANIZATION, holder(job), Death("killed", -9, others=1 << 62))
    assert (await kit.job(job.job_id)).run_alone == 1


@pytest.mark.parametrize(("max_retries", "losses"), [(1, 1), (3, 2)])
async def test_a_job_that_was_lost_again_runs_alone(
    kit: StoreKit, max_retries: int, losses: int
) -> None:
    await kit.enqueue(max_retries=max_retries)
    for _ in range(losses):
        assert not (await kit.claim_one(seconds=5)).run_alone
        kit.clock.advance(5)
        await kit.store.sweep()
    assert (await kit.claim_one()).run_alone


async def test_a_dead_worker_s_jobs_are_back_at_once_and_only_those(kit: StoreKit) -> None:
    for queue in ("q", "q", "other", "q", "q"):
        await kit.enqueue(queue)
    mine = await kit.claim(2, worker="dead")
    other = (await kit.claim(1, worker="dead", queue_name="other"))[0]
    kept = await kit.claim(1, worker="alive")
    death = DeadWorker("dead", "WorkerDied: ended by SIGKILL", -9, ["q"])
    assert await kit.store.end_worker("another", death) == 0
    assert await kit.store.end_worker(ORGANIZATION, death) == 2
    for job in mine:
        [run] = await kit.store.attempts(ORGANIZATION, job.job_id)
        assert (run.worker_id, run.ending, run.exit_code) == ("dead", Ending.DIED, -9)
        record = await kit.job(job.job_id)
        assert (record.status, record.retry_count) == (Status.PENDING, 0)
    for job in (other, *kept):
        assert (await kit.job(job.job_id)).status == Status.PROCESSING
    # It was the only one that the worker had, so it was this job.
    assert await kit.store.end_worker(ORGANIZATION, replace(death, queues=None)) == 1
    assert (await kit.job(other.job_id)).retry_count == 1
    assert await kit.store.end_worker(ORGANIZATION, death) == 0


async def test_what_a_dead_worker_had_not_begun_is_not_suspected(kit: StoreKit) -> None:
    job_ids = [await kit.enqueue() for _ in range(4)]
    await kit.claim(4, worker="dead")
    death = DeadWorker("dead", "killed", -9, None, {job_ids[1], "of another worker"})
    assert await kit.store.end_worker(ORGANIZATION, death) == 4
    jobs = [await kit.job(job_id) for job_id in job_ids]
    # Of one job that ran it is certain.
    assert [(job.deliveries, job.retry_count) for job in jobs] == [(0, 0), (1, 1), (0, 0), (0, 0)]
    assert [bool(job.run_alone) for job in jobs] == [False, True, False, False]


async def test_the_newest_attempts_are_listed_of_a_job_that_never_ends(
    kit: StoreKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reading in (sqlite_reading, postgres_reading):
        monkeypatch.setattr(reading, "ATTEMPTS_MAX", 2)
    await kit.open_batch()
    await kit.add("b", "x", max_retries=9)
    for _ in range(4):
        job_id = await end_one(kit, GIVEN_UP)
        kit.clock.advance(61)
    await kit.claim_one()
    found = await kit.store.attempts(ORGANIZATION, job_id)
    assert [each.number for each in found] == [3, 4, 5]
