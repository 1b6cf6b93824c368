"""Jobs under one lease: each is fenced by itself, and settled as if it had been claimed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.errors import RefusedError, invalid
from spooled_pipelines.server.core.jobs.records import JobRecord, Status
from spooled_pipelines.server.core.jobs.settlements import (
    ChunkSettlement,
    Completion,
    FailOutcome,
    Failure,
    GiveBack,
    Incomplete,
    LeasedJobs,
)
from spooled_pipelines.server.store import Settled
from spooled_pipelines.server.store.requests import ClaimRequest
from tests.support.store_kit import ORGANIZATION, StoreKit, holder, settle_one, struct


async def claim(
    kit: StoreKit, limit: int, worker: str = "w", size: int = 1 << 20
) -> list[JobRecord]:
    request = ClaimRequest("q", worker, 30_000, limit, size, ids.new_lease_id())
    return await kit.store.claim(ORGANIZATION, request)


def held(jobs: Sequence[JobRecord], **changes: str) -> LeasedJobs:
    lease = LeasedJobs("q", "w", jobs[0].lease_id or "", [job.job_id for job in jobs])
    return lease._replace(**changes)


async def settle(
    kit: StoreKit,
    jobs: LeasedJobs,
    results: Sequence[bytes | None] = (),
    exceptions: Mapping[int, Incomplete | RefusedError] | None = None,
) -> dict[int, Settled]:
    settlement = ChunkSettlement(jobs, results, exceptions or {})
    return await kit.store.settle_chunk(ORGANIZATION, settlement)


async def statuses(kit: StoreKit, jobs: Sequence[JobRecord]) -> list[int]:
    return [(await kit.job(job.job_id)).status for job in jobs]


def messages(outcomes: Mapping[int, Settled]) -> dict[int, str]:
    assert all(isinstance(outcome, RefusedError) for outcome in outcomes.values()), outcomes
    return {place: str(outcome) for place, outcome in outcomes.items()}


async def test_a_chunk_has_one_lease_and_is_ordered_as_any_claim(kit: StoreKit) -> None:
    made = [await kit.enqueue(priority=priority) for priority in (0, 5, 0, 9)]
    jobs = await claim(kit, 10)
    assert [job.job_id for job in jobs] == [made[3], made[1], made[0], made[2]]
    assert len({job.lease_id for job in jobs}) == 1
    assert await kit.job(made[0]) == jobs[2]


async def test_a_chunk_holds_as_many_bytes_as_asked_for_and_one_job_at_least(kit: StoreKit) -> None:
    for _ in range(4):
        await kit.enqueue(payload=struct(text="x" * 400))
    assert [len(await claim(kit, 10, size=size)) for size in (1_000, 1, 10_000)] == [2, 1, 1]


async def test_all_that_is_not_said_otherwise_is_completed(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", *"abcdef")
    jobs = await claim(kit, 6)
    result = [struct(n=n) for n in range(6)]
    outcomes = await settle(
        kit,
        held(jobs),
        [result[0], None, b"", result[3], result[4], result[5]],
        {3: Failure("broken", True), 4: Failure("hopeless", False), 5: GiveBack()},
    )
    assert outcomes == {3: FailOutcome(True, 60), 4: FailOutcome(False, 0), 5: None}
    assert await statuses(kit, jobs) == [
        *[Status.COMPLETED] * 3,
        *(Status.PENDING, Status.DEADLETTER, Status.PENDING),
    ]
    kept = [(await kit.job(job.job_id)).result for job in jobs]
    assert kept == [result[0], None, b"", None, None, None]
    assert await kit.store.recount() == []
    assert set(kit.changed().released_jobs) >= {job.job_id for job in jobs}


async def test_a_chunk_without_results_is_completed_without(kit: StoreKit) -> None:
    for _ in range(3):
        await kit.enqueue()
    jobs = await claim(kit, 3)
    assert await settle(kit, held(jobs)) == {}
    assert [(await kit.job(job.job_id)).result for job in jobs] == [None] * 3


async def test_what_is_refused_already_is_left_alone(kit: StoreKit) -> None:
    await kit.enqueue()
    (job,) = await claim(kit, 1)
    wrong = invalid("result is too large")
    assert await settle(kit, held([job]), [b""], {0: wrong}) == {0: wrong}
    assert await statuses(kit, [job]) == [Status.PROCESSING]


async def test_single_jobs_of_a_chunk_are_settled_and_renewed_by_their_lease(kit: StoreKit) -> None:
    for _ in range(4):
        await kit.enqueue()
    jobs = await claim(kit, 4)
    await settle_one(kit.store, ORGANIZATION, holder(jobs[0]), Completion(None))
    await settle_one(kit.store, ORGANIZATION, holder(jobs[1]), GiveBack())
    await kit.store.renew(ORGANIZATION, holder(jobs[2]), 60_000)
    refused = messages(await settle(kit, held(jobs)))
    assert "already completed" in refused.pop(0)
    assert "does not match" in refused.pop(1)
    assert not refused
    assert await statuses(kit, jobs) == [
        *(Status.COMPLETED, Status.PENDING, Status.COMPLETED, Status.COMPLETED)
    ]


async def test_each_job_of_a_chunk_is_fenced_by_itself(kit: StoreKit) -> None:
    for _ in range(3):
        await kit.enqueue()
    late = await claim(kit, 3)
    await settle(kit, held(late[:1]))
    kit.clock.advance(31)
    await kit.store.sweep()
    # One is another worker's now, one waits for any.
    (again,) = await claim(kit, 1, worker="other")
    assert again.job_id == late[1].job_id
    refused = messages(await settle(kit, held(late)))
    assert sorted(refused) == [0, 1, 2]
    assert "already completed" in refused[0]
    assert "does not match" in refused[1]
    assert "Lease expired" in refused[2]
    assert await kit.store.renew_chunk(ORGANIZATION, held(late), 30_000) == [0, 1, 2]
    assert await kit.job(again.job_id) == again
    assert await settle(kit, held([again], worker_id="other")) == {}
    assert await kit.store.recount() == []


async def test_a_lease_that_ran_out_settles_nothing_though_nobody_swept(kit: StoreKit) -> None:
    await kit.enqueue()
    jobs = await claim(kit, 1)
    kit.clock.advance(30)
    assert "Lease expired" in messages(await settle(kit, held(jobs)))[0]
    assert await kit.store.renew_chunk(ORGANIZATION, held(jobs), 30_000) == [0]


async def test_a_renewed_chunk_lasts_longer_and_lost_jobs_are_named(kit: StoreKit) -> None:
    for _ in range(3):
        await kit.enqueue()
    jobs = await claim(kit, 3)
    await settle(kit, held(jobs[1:2]))
    kit.clock.advance(20)
    assert await kit.store.renew_chunk(ORGANIZATION, held(jobs), 30_000) == [1]
    kit.clock.advance(25)
    assert await settle(kit, held(jobs[::2])) == {}


async def test_others_and_strangers_settle_nothing_of_a_chunk(kit: StoreKit) -> None:
    for queue_name in ("q", "q2"):
        await kit.enqueue(queue_name)
    (job,) = await claim(kit, 1)
    (foreign,) = await kit.claim(queue_name="q2")
    lease = held([job])
    for wrong, text in (
        (lease._replace(worker_id="other"), "worker_id"),
        (lease._replace(lease_id="other"), "does not match"),
        (lease._replace(queue_name="q2"), "no job"),
        (lease._replace(queue_name="never"), "no job"),
        (lease._replace(job_ids=["nonsense"]), "no job"),
        (lease._replace(job_ids=[foreign.job_id], lease_id=foreign.lease_id or ""), "no job"),
    ):
        for exceptions in ({}, {0: Failure("x", True)}):
            assert text in messages(await settle(kit, wrong, [b""], exceptions))[0]
        assert await kit.store.renew_chunk(ORGANIZATION, wrong, 30_000) == [0]
    stranger = ChunkSettlement(lease, (), {})
    assert "no job" in messages(await kit.store.settle_chunk("other", stranger))[0]
    assert await kit.store.renew_chunk("other", lease, 30_000) == [0]
    assert await statuses(kit, [job, foreign]) == [Status.PROCESSING] * 2
    assert await settle(kit, lease) == {}
