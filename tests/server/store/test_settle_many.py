"""Many outcomes in one transaction: each as if it had come alone."""

from __future__ import annotations

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.jobs.records import Status
from spooled_pipelines.server.core.jobs.settlements import (
    Completion,
    FailOutcome,
    Failure,
    GiveBack,
    Settlement,
)
from tests.support.store_kit import ORGANIZATION, StoreKit, holder, struct


async def test_each_outcome_of_a_group_is_done_or_refused_by_itself(kit: StoreKit) -> None:
    ids = [await kit.enqueue(max_retries=1) for _ in range(6)]
    done, failed, buried, returned, stale, twice = await kit.claim(limit=6)
    result = struct(ok=True)
    wrong = holder(stale)._replace(lease_id=holder(done).lease_id)
    outcomes = await kit.store.settle(
        ORGANIZATION,
        [
            Settlement(holder(done), Completion(result)),
            Settlement(holder(failed), Failure("broken", True)),
            Settlement(holder(buried), Failure("hopeless", False)),
            Settlement(holder(returned), GiveBack()),
            Settlement(wrong, Completion(None)),
            Settlement(holder(twice), Completion(None)),
            Settlement(holder(twice), Completion(None)),
        ],
    )
    assert outcomes[:4] == [None, FailOutcome(True, 60), FailOutcome(False, 0), None]
    assert outcomes[5] is None
    assert isinstance(outcomes[4], RefusedError)
    assert isinstance(outcomes[6], RefusedError)
    assert "already completed" in outcomes[6].message
    states = [(await kit.job(job_id)).status for job_id in ids]
    assert states == [
        Status.COMPLETED,
        Status.PENDING,
        Status.DEADLETTER,
        Status.PENDING,
        Status.PROCESSING,
        Status.COMPLETED,
    ]
    assert (await kit.job(ids[0])).result == result
    # Given back is not a try that failed.
    assert [(await kit.job(ids[at])).retry_count for at in (1, 3)] == [1, 0]
    assert await kit.store.recount() == []


async def test_a_failure_may_say_when_it_is_tried_again(kit: StoreKit) -> None:
    await kit.enqueue(max_retries=5)
    for delay in (0, 7, 4_000):
        job = await kit.claim_one()
        act = Failure("not yet", True, delay)
        outcome = await kit.store.settle(ORGANIZATION, [Settlement(holder(job), act)])
        assert outcome == [FailOutcome(True, delay)]
        if delay:
            kit.clock.advance(delay - 1)
            assert await kit.claim() == []
            kit.clock.advance(1)


async def test_nothing_to_settle_is_nothing(kit: StoreKit) -> None:
    assert await kit.store.settle(ORGANIZATION, []) == []


async def test_another_organization_s_job_is_not_there(kit: StoreKit) -> None:
    await kit.enqueue()
    job = await kit.claim_one()
    [outcome] = await kit.store.settle("other", [Settlement(holder(job), GiveBack())])
    assert isinstance(outcome, RefusedError)
    assert outcome.code == "NOT_FOUND"
