"""Dead letters one by one: back into the queue, patched or not, or cancelled."""

from __future__ import annotations

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.jobs.records import JobRecord, Status
from spooled_pipelines.server.core.jobs.settlements import Failure, Revision
from tests.support.store_kit import ORGANIZATION, StoreKit, holder, settle_one, struct


async def dead(kit: StoreKit, *names: str) -> list[JobRecord]:
    await kit.open_batch()
    await kit.add("b", *names)
    await kit.store.seal_batch(ORGANIZATION, "b")
    jobs = await kit.claim(limit=len(names))
    for job in jobs:
        await settle_one(kit.store, ORGANIZATION, holder(job), Failure("boom", False))
    return jobs


async def test_each_is_revised_or_refused_by_itself(kit: StoreKit) -> None:
    again, patched, gone, living = await dead(kit, "a", "b", "c", "d")
    await kit.store.revise(ORGANIZATION, [Revision(living.job_id)])
    outcomes = await kit.store.revise(
        ORGANIZATION,
        [
            Revision(again.job_id),
            Revision(patched.job_id, struct(new=1)),
            Revision(gone.job_id, discard=True),
            Revision(living.job_id, discard=True),
            Revision("00000000-0000-8000-8000-000000000999"),
            Revision(again.job_id, discard=True),
        ],
    )
    assert outcomes[:3] == [None, None, None]
    codes = [each.code for each in outcomes[3:] if isinstance(each, RefusedError)]
    assert codes == ["FAILED_PRECONDITION", "NOT_FOUND", "FAILED_PRECONDITION"]
    jobs = [await kit.job(job.job_id) for job in (again, patched, gone)]
    assert [job.status for job in jobs] == [Status.PENDING, Status.PENDING, Status.CANCELLED]
    assert [job.retry_count for job in jobs[:2]] == [0, 0]
    assert (jobs[0].payload, jobs[1].payload) == (again.payload, struct(new=1))
    assert (await kit.counts()) == {"pending": 3, "cancelled": 1}
    assert await kit.store.recount() == []


async def test_the_errors_of_a_batch_are_counted_no_more(kit: StoreKit) -> None:
    jobs = await dead(kit, "a", "b", "c")
    await kit.store.revise(ORGANIZATION, [Revision(jobs[0].job_id, discard=True)])
    await kit.store.revise(ORGANIZATION, [Revision(jobs[1].job_id)])
    (record,) = await kit.store.batches(ORGANIZATION, ["b"])
    assert record.top_errors == (("boom", 1),)
    assert not record.settled


async def test_a_job_that_has_not_started_is_cancelled_by_itself(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "a", "b", "c")
    running, retrying = await kit.claim(2)
    await settle_one(kit.store, ORGANIZATION, holder(retrying), Failure("boom", True, 60))
    scheduled = await kit.enqueue("q", scheduled_at=kit.clock.now() + 60_000)
    asked = [retrying.job_id, scheduled, running.job_id]
    revisions = [Revision(job_id, cancel=True) for job_id in asked]
    outcomes = await kit.store.revise(ORGANIZATION, revisions)
    assert [outcome and outcome.code for outcome in outcomes] == [None, None, "FAILED_PRECONDITION"]
    statuses = [(await kit.job(job_id)).status for job_id in asked]
    assert statuses == [Status.CANCELLED, Status.CANCELLED, Status.PROCESSING]
    assert await kit.store.recount() == []


async def test_another_organization_s_dead_letter_is_not_there(kit: StoreKit) -> None:
    [job] = await dead(kit, "a")
    [outcome] = await kit.store.revise("other", [Revision(job.job_id)])
    assert isinstance(outcome, RefusedError)
    assert outcome.code == "NOT_FOUND"
    assert (await kit.job(job.job_id)).status == Status.DEADLETTER
