"""A lease is one worker's until it settles the job or its time is up, and then nobody's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from spooled_pipelines.server.core.errors import LEASE_EXPIRED, LEASE_MISMATCH
from spooled_pipelines.server.core.jobs.records import JobRecord, Status
from spooled_pipelines.server.core.jobs.settlements import Completion, Failure, LeaseHolder
from spooled_pipelines.server.store.requests import ClaimRequest, LostClaims
from tests.support.store_kit import ORGANIZATION, StoreKit, holder, refused, settle_one


@dataclass(frozen=True)
class Settle:
    """What a worker does with its lease, and how the job shows that it was done."""

    do: Callable[[StoreKit, LeaseHolder, str], Awaitable[object]]
    # Given the job as it was claimed, and as it is.
    is_done: Callable[[JobRecord, JobRecord], bool]

    async def __call__(self, kit: StoreKit, who: LeaseHolder, organization: str) -> object:
        return await self.do(kit, who, organization)


SETTLES = {
    "complete": Settle(
        lambda kit, who, org: settle_one(kit.store, org, who, Completion(None)),
        lambda _, job: job.status == Status.COMPLETED,
    ),
    "fail": Settle(
        lambda kit, who, org: settle_one(kit.store, org, who, Failure("broken", True)),
        lambda _, job: (job.status, job.last_error) == (Status.PENDING, "broken"),
    ),
    "renew": Settle(
        lambda kit, who, org: kit.store.renew(org, who, 60_000),
        lambda claimed, job: (job.lease_expires_at or 0) > (claimed.lease_expires_at or 0),
    ),
}


@pytest.fixture(params=sorted(SETTLES))
def settle(request: pytest.FixtureRequest) -> Settle:
    """Complete, fail and renew, one after another."""
    return SETTLES[request.param]


async def test_the_holder_of_a_lease_may_settle_and_renew(kit: StoreKit, settle: Settle) -> None:
    await kit.enqueue()
    job = await kit.claim_one()
    await settle(kit, holder(job), ORGANIZATION)
    assert settle.is_done(job, await kit.job(job.job_id))


@pytest.mark.parametrize("given", ["lease", "worker", "nothing"])
async def test_a_lease_is_enough_and_so_is_the_job_alone(
    kit: StoreKit, settle: Settle, given: str
) -> None:
    await kit.enqueue()
    job = await kit.claim_one()
    worker_id = job.worker_id or "" if given == "worker" else ""
    lease_id = job.lease_id or "" if given == "lease" else ""
    await settle(kit, LeaseHolder(job.job_id, worker_id, lease_id), ORGANIZATION)
    assert settle.is_done(job, await kit.job(job.job_id))


async def test_another_lease_may_not(kit: StoreKit, settle: Settle) -> None:
    await kit.enqueue()
    job = await kit.claim_one()
    with refused("FAILED_PRECONDITION", LEASE_MISMATCH):
        await settle(kit, holder(job)._replace(lease_id="0" * 32), ORGANIZATION)
    assert await kit.job(job.job_id) == job


async def test_another_worker_may_not(kit: StoreKit, settle: Settle) -> None:
    await kit.enqueue()
    job = await kit.claim_one()
    with refused("FAILED_PRECONDITION", LEASE_MISMATCH):
        await settle(kit, holder(job)._replace(worker_id="other", lease_id=""), ORGANIZATION)


async def test_another_organization_finds_no_such_job(kit: StoreKit, settle: Settle) -> None:
    await kit.enqueue()
    job = await kit.claim_one()
    with refused("NOT_FOUND", "no job"):
        await settle(kit, holder(job), "other")
    assert await kit.job(job.job_id) == job


async def test_an_unknown_job_is_not_found(kit: StoreKit, settle: Settle) -> None:
    with refused("NOT_FOUND", "no job"):
        await settle(kit, LeaseHolder("nonsense", "w", "l"), ORGANIZATION)


async def test_a_lease_is_dead_the_moment_its_time_is_up(kit: StoreKit, settle: Settle) -> None:
    await kit.enqueue()
    job = await kit.claim_one(seconds=30)
    kit.clock.advance(30)
    # No sweep has seen it yet, and it is dead all the same.
    with refused("FAILED_PRECONDITION", LEASE_EXPIRED):
        await settle(kit, holder(job), ORGANIZATION)
    await kit.store.sweep()
    with refused("FAILED_PRECONDITION", LEASE_EXPIRED):
        await settle(kit, holder(job), ORGANIZATION)
    await kit.claim_one(worker="other")
    with refused("FAILED_PRECONDITION", LEASE_MISMATCH):
        await settle(kit, holder(job), ORGANIZATION)


async def test_a_settled_job_says_what_it_is(kit: StoreKit, settle: Settle) -> None:
    await kit.enqueue()
    completed = await kit.claim_one()
    await kit.complete(completed)
    with refused("FAILED_PRECONDITION", "Job is already completed"):
        await settle(kit, holder(completed), ORGANIZATION)
    await kit.enqueue()
    dead = await kit.claim_one()
    await settle_one(kit.store, ORGANIZATION, holder(dead), Failure("broken", False))
    with refused("FAILED_PRECONDITION", "Job is already deadletter"):
        await settle(kit, holder(dead), ORGANIZATION)


async def test_a_job_that_nobody_claimed_cannot_be_settled(kit: StoreKit, settle: Settle) -> None:
    job_id = await kit.enqueue()
    with refused("FAILED_PRECONDITION", "pending"):
        await settle(kit, LeaseHolder(job_id, "", ""), ORGANIZATION)


async def test_completing_keeps_the_result_and_ends_the_lease(kit: StoreKit) -> None:
    await kit.enqueue()
    job = await kit.claim_one()
    kit.clock.advance(2)
    kit.changed()
    await settle_one(kit.store, ORGANIZATION, holder(job), Completion(b"\n\x00"))
    assert kit.changed().released_jobs == [job.job_id]
    done = await kit.job(job.job_id)
    assert (done.status, done.result) == (Status.COMPLETED, b"\n\x00")
    assert (done.completed_at, done.lease_expires_at) == (kit.clock.now(), None)
    assert await kit.store.sweep() is None
    assert await kit.queue_counts() == {"completed": 1}


async def test_renewing_counts_from_now(kit: StoreKit) -> None:
    await kit.enqueue()
    job = await kit.claim_one(seconds=30)
    kit.clock.advance(20)
    expiry = await kit.store.renew(ORGANIZATION, holder(job), 25_000)
    assert expiry == kit.clock.now() + 25_000
    kit.clock.advance(24)
    await kit.complete(job)


async def test_a_lease_that_ran_out_gives_the_job_back_at_once(kit: StoreKit) -> None:
    await kit.enqueue(max_retries=1)
    job = await kit.claim_one(seconds=30)
    assert await kit.store.sweep() == kit.clock.now() + 30_000
    kit.clock.advance(30)
    kit.changed()
    assert await kit.store.sweep() is None
    changes = kit.changed()
    assert changes.ready_queues == {(ORGANIZATION, "q")}
    assert changes.released_jobs == [job.job_id]
    again = await kit.claim_one(worker="other")
    assert (again.job_id, again.retry_count) == (job.job_id, 1)
    assert "Lease expired" in again.last_error


async def test_a_lease_that_is_renewed_for_less_than_it_had_is_looked_after_in_time(
    kit: StoreKit,
) -> None:
    await kit.enqueue()
    job = await kit.claim_one(seconds=3_600)
    kit.changed()
    expiry = await kit.store.renew(ORGANIZATION, holder(job), 5_000)
    # The timer, which would look in an hour, is told.
    assert kit.changed().due == expiry == kit.clock.now() + 5_000
    kit.clock.advance(5)
    assert await kit.store.sweep() is None
    assert (await kit.job(job.job_id)).status == Status.PENDING


async def test_a_lease_that_ran_out_with_no_retry_left_is_a_dead_letter(kit: StoreKit) -> None:
    await kit.enqueue(max_retries=1)
    for _ in range(2):
        job = await kit.claim_one()
        kit.clock.advance(31)
        await kit.store.sweep()
    dead = await kit.job(job.job_id)
    assert (dead.status, dead.retry_count) == (Status.DEADLETTER, 1)
    assert await kit.queue_counts() == {"deadletter": 1}


async def test_a_sweep_takes_back_more_than_one_lot(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", *(str(n) for n in range(2_500)))
    while await kit.claim(100):
        pass
    kit.clock.advance(31)
    await kit.store.sweep()
    assert await kit.counts() == {"pending": 2_500}


async def test_claims_without_an_answer_are_taken_back_by_their_worker_alone(
    kit: StoreKit,
) -> None:
    ids = [await kit.enqueue() for _ in range(5)]
    other = await kit.enqueue("other")
    leases = [f"{number:032x}" for number in range(4)]
    holders = (("q", "w"), ("q", "w"), ("q", "v"), ("other", "w"))
    for lease, (queue, worker) in zip(leases, holders, strict=True):
        asked = ClaimRequest(queue, worker, 30_000, 1, lease_id=lease)
        await kit.store.claim(ORGANIZATION, asked)
    kit.changed()
    lost = LostClaims("q", "w", [leases[1], leases[2], leases[3], "f" * 32])
    assert await kit.store.take_back("another", lost) == 0
    assert await kit.store.take_back(ORGANIZATION, lost) == 1
    assert kit.changed().ready_queues
    jobs = [await kit.job(job_id) for job_id in [*ids, other]]
    held = [job.worker_id for job in jobs]
    assert held == ["w", None, "v", None, None, "w"]
    # As if it had not been handed out.
    assert (jobs[1].status, jobs[1].deliveries) == (Status.PENDING, 0)
    assert await kit.store.attempts(ORGANIZATION, ids[1]) == []
    assert [job.job_id for job in await kit.claim(1)] == [ids[1]]
    assert await kit.store.recount() == []
