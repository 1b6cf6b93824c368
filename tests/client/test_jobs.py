"""What each call does against a real server, for both clients."""

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from spooled_pipelines import AsyncSpooledClient, Job, errors
from spooled_pipelines.types import JobStatus

WORKER = "worker-1"


async def claim(client: AsyncSpooledClient, queue: str, **settings: Any) -> Job:
    (job,) = await client.dequeue(queue, WORKER, **settings)
    return job


async def test_a_job_arrives_as_it_was_sent(any_client: AsyncSpooledClient, queue: str) -> None:
    payload = {"to": "ada@example.org", "n": 3, "x": 0.5, "deep": [{"a": None}, True], "ü": "€"}
    sent = await any_client.enqueue(
        queue, payload, priority=7, max_retries=2, timeout_seconds=60, tags={"team": "a"}
    )
    assert sent.created
    job = await any_client.get_job(sent.job_id)
    assert job.payload == payload
    assert job.queue_name == queue
    assert job.status is JobStatus.PENDING
    assert (job.priority, job.max_retries, job.timeout_seconds) == (7, 2, 60)
    assert job.created_at is not None
    assert abs(datetime.now(timezone.utc) - job.created_at) < timedelta(minutes=1)
    assert job.idempotency_key


async def test_a_json_text_is_a_payload(any_client: AsyncSpooledClient, queue: str) -> None:
    sent = await any_client.enqueue(queue, '{"n": 1, "items": ["a"]}')
    assert (await any_client.get_job(sent.job_id)).payload == {"n": 1, "items": ["a"]}


async def test_the_same_key_is_the_same_job(any_client: AsyncSpooledClient, queue: str) -> None:
    first = await any_client.enqueue(queue, {"n": 1}, idempotency_key=f"{queue}-k")
    again = await any_client.enqueue(queue, {"n": 2}, idempotency_key=f"{queue}-k")
    assert (first.created, again.created) == (True, False)
    assert again.job_id == first.job_id
    assert (await any_client.get_job(first.job_id)).payload == {"n": 1}


async def test_without_a_key_each_call_is_a_job(any_client: AsyncSpooledClient, queue: str) -> None:
    sent = [await any_client.enqueue(queue, {"n": 1}) for _ in range(3)]
    assert len({result.job_id for result in sent}) == 3


async def test_a_scheduled_job_waits_for_its_time(
    any_client: AsyncSpooledClient, queue: str
) -> None:
    due = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=1)
    sent = await any_client.enqueue(queue, {}, scheduled_at=due.astimezone())
    job = await any_client.get_job(sent.job_id)
    assert job.status is JobStatus.SCHEDULED
    assert job.scheduled_at == due
    assert await any_client.dequeue(queue, WORKER) == []


async def test_jobs_are_claimed_by_priority_then_age(
    any_client: AsyncSpooledClient, queue: str
) -> None:
    for number, priority in enumerate([0, 5, 0, 5]):
        await any_client.enqueue(queue, {"n": number}, priority=priority)
    first = await any_client.dequeue(queue, WORKER, batch_size=2)
    jobs = [*first, *await any_client.dequeue(queue, WORKER, batch_size=10)]
    assert [job.payload["n"] for job in jobs] == [1, 3, 0, 2]
    # A claim has one lease, which each of its jobs is settled by; another claim has another.
    one, other, *rest = [job.lease_id for job in jobs]
    assert one == other
    assert one is not None
    assert one not in rest
    assert len(set(rest)) == 1
    for job in jobs:
        assert job.assigned_worker_id == WORKER
        assert job.status is JobStatus.PROCESSING
        assert job.lease_expires_at is not None


async def test_a_job_is_completed_with_its_result(
    any_client: AsyncSpooledClient, queue: str
) -> None:
    await any_client.enqueue(queue, {"n": 2})
    job = await claim(any_client, queue)
    await any_client.complete(job, result={"doubled": 4})
    done = await any_client.get_job(job.id)
    assert done.status is JobStatus.COMPLETED
    assert done.status.settled
    assert done.result == {"doubled": 4}
    assert done.completed_at is not None


async def test_a_job_may_be_named_by_its_parts(any_client: AsyncSpooledClient, queue: str) -> None:
    for _ in range(2):
        await any_client.enqueue(queue, {})
    one, two = await any_client.dequeue(queue, WORKER, batch_size=2)
    await any_client.complete(one.id, WORKER, {"ok": True}, lease_id=one.lease_id)
    await any_client.complete(two.id, WORKER)
    assert (await any_client.queue_stats(queue)).completed == 2


async def test_a_failed_job_is_tried_again_later(
    any_client: AsyncSpooledClient, queue: str
) -> None:
    await any_client.enqueue(queue, {})
    job = await claim(any_client, queue)
    outcome = await any_client.fail(job, "no such file")
    assert outcome.will_retry
    assert outcome.next_retry_delay == 60
    failed = await any_client.get_job(job.id)
    assert (failed.retry_count, failed.last_error) == (1, "no such file")


async def test_a_job_that_shall_not_be_retried_is_dead(
    any_client: AsyncSpooledClient, queue: str
) -> None:
    await any_client.enqueue(queue, {})
    job = await claim(any_client, queue)
    outcome = await any_client.fail(job, "x" * 3000, retry=False)
    assert not outcome.will_retry
    dead = await any_client.get_job(job.id)
    assert dead.status is JobStatus.DEADLETTER
    assert dead.last_error is not None
    assert len(dead.last_error) == 2048


async def test_a_lease_is_renewed_from_now(any_client: AsyncSpooledClient, queue: str) -> None:
    await any_client.enqueue(queue, {})
    job = await claim(any_client, queue, lease_seconds=5)
    until = await any_client.renew_lease(job, lease_seconds=300)
    assert job.lease_expires_at is not None
    assert until > job.lease_expires_at + timedelta(seconds=200)
    assert until.tzinfo is not None


async def test_the_statistics_count_each_job_once(
    any_client: AsyncSpooledClient, queue: str
) -> None:
    for _ in range(5):
        await any_client.enqueue(queue, {})
    await any_client.enqueue(
        queue, {}, scheduled_at=datetime.now(timezone.utc) + timedelta(hours=1)
    )
    jobs = await any_client.dequeue(queue, WORKER, batch_size=3)
    await any_client.complete(jobs[0])
    await any_client.fail(jobs[1], "broken", retry=False)
    stats = await any_client.queue_stats(queue)
    assert (stats.pending, stats.scheduled, stats.processing) == (2, 1, 1)
    assert (stats.completed, stats.deadletter, stats.total) == (1, 1, 6)


async def test_an_unknown_queue_is_empty(any_client: AsyncSpooledClient, queue: str) -> None:
    assert (await any_client.queue_stats(queue)).total == 0
    assert await any_client.dequeue(queue, WORKER) == []


async def test_a_settled_job_is_settled_once(any_client: AsyncSpooledClient, queue: str) -> None:
    await any_client.enqueue(queue, {})
    job = await claim(any_client, queue)
    await any_client.complete(job)
    with pytest.raises(errors.ConflictError) as caught:
        await any_client.complete(job)
    assert type(caught.value) is errors.ConflictError
    assert caught.value.details["job_status"] == "completed"


async def test_a_lease_of_somebody_else_is_lost(any_client: AsyncSpooledClient, queue: str) -> None:
    await any_client.enqueue(queue, {})
    job = await claim(any_client, queue)
    for settle in (
        any_client.complete(job, lease_id="somebody-elses"),
        any_client.fail(job, "x", lease_id="somebody-elses"),
        any_client.renew_lease(job, lease_id="somebody-elses"),
    ):
        with pytest.raises(errors.LeaseLostError):
            await settle
    await any_client.complete(job)


async def test_an_unknown_job_is_not_found(any_client: AsyncSpooledClient) -> None:
    for call in (
        any_client.get_job("no-such-job"),
        any_client.complete("no-such-job", WORKER, lease_id="x"),
        any_client.fail("no-such-job", "x", WORKER, lease_id="x"),
        any_client.renew_lease("no-such-job", WORKER, lease_id="x"),
    ):
        with pytest.raises(errors.NotFoundError) as caught:
            await call
        assert caught.value.code == "NOT_FOUND"


async def test_what_cannot_be_sent_is_refused_before_it_is(
    any_client: AsyncSpooledClient, queue: str
) -> None:
    for payload in ({"n": 2**60}, {"x": float("inf")}, {"when": datetime.now(timezone.utc)}):
        with pytest.raises(errors.LossyValueError):
            await any_client.enqueue(queue, payload)
    with pytest.raises(errors.InvalidArgumentError):
        await any_client.enqueue(queue, {}, priority=101)
    assert (await any_client.queue_stats(queue)).total == 0


async def test_a_worker_lives_from_register_to_deregister(
    any_client: AsyncSpooledClient, queue: str
) -> None:
    worker = await any_client.register_worker(
        queue, worker_id=f"w-{queue}", max_concurrency=3, metadata={"zone": "a"}
    )
    assert worker.worker_id == f"w-{queue}"
    assert (worker.lease_seconds, worker.heartbeat_seconds) == (30, 10)
    again = await any_client.register_worker(queue, worker_id=worker.worker_id)
    assert again.worker_id == worker.worker_id
    beat = await any_client.heartbeat(worker.worker_id, current_jobs=1, metadata={"load": "0.2"})
    assert beat.acknowledged
    assert not beat.should_drain
    await any_client.deregister_worker(worker.worker_id)
    await any_client.deregister_worker(worker.worker_id)
    with pytest.raises(errors.NotFoundError):
        await any_client.heartbeat(worker.worker_id)


async def test_a_worker_may_leave_its_name_to_the_server(
    any_client: AsyncSpooledClient, queue: str
) -> None:
    names = {(await any_client.register_worker(queue)).worker_id for _ in range(2)}
    assert len(names) == 2


async def test_many_calls_at_once_share_one_client(
    any_client: AsyncSpooledClient, queue: str
) -> None:
    sent = await asyncio.gather(*(any_client.enqueue(queue, {"n": n}) for n in range(50)))
    assert len({result.job_id for result in sent}) == 50
    assert (await any_client.queue_stats(queue)).pending == 50
