"""One job's way over the wire, call by call, with the texts that SDKs read."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from spooled_pipelines.wire import spooled_v1 as spooled
from spooled_pipelines.wire.well_known import Timestamp
from tests.support.waiting import aeventually
from tests.support.wire import Wire, answered, struct


def moment(milliseconds: int) -> Timestamp:
    return Timestamp(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


async def test_a_job_from_enqueue_to_result(wire: Wire) -> None:
    payload = struct(text="é", number=1.5, none=None, nested={"list": [1, True, "x"]})
    response = await wire.call(
        spooled.EnqueueRequest(queue_name="q", payload=payload, priority=3, idempotency_key="k")
    )
    assert response.created
    made = wire.clock.now()
    wire.clock.advance(1.5)
    job = await wire.claim(worker_id="w", lease_duration_secs=60)
    assert job.payload == payload
    assert (job.id, job.organization_id, job.queue_name) == (response.job_id, "default", "q")
    assert (job.status, job.priority) == (spooled.JOB_STATUS_PROCESSING, 3)
    assert (job.assigned_worker_id, job.idempotency_key) == ("w", "k")
    assert (job.created_at, job.started_at) == (moment(made), moment(wire.clock.now()))
    assert job.lease_expires_at == moment(wire.clock.now() + 60_000)
    assert job.lease_id
    wire.clock.advance(30)
    renewed = await wire.call(
        spooled.RenewLeaseRequest(
            job_id=job.id, worker_id="w", extension_secs=90, lease_id=job.lease_id
        )
    )
    assert renewed.success
    assert renewed.new_expires_at == moment(wire.clock.now() + 90_000)
    wire.clock.advance(80)
    done = await wire.call(
        spooled.CompleteRequest(
            job_id=job.id, worker_id="w", result=struct(ok=True), lease_id=job.lease_id
        )
    )
    assert done.success
    job = (await wire.call(spooled.GetJobRequest(job_id=job.id))).job
    assert (job.status, job.result) == (spooled.JOB_STATUS_COMPLETED, struct(ok=True))
    assert job.completed_at == moment(wire.clock.now())
    assert not job.lease_id
    assert not job.HasField("lease_expires_at")


async def test_an_idempotency_key_is_one_job(wire: Wire) -> None:
    request = spooled.EnqueueRequest(queue_name="q", idempotency_key="k")
    first, second = await wire.call(request), await wire.call(request)
    assert (first.created, second.created) == (True, False)
    assert first.job_id == second.job_id


async def test_statistics_tell_each_status_and_the_oldest_age(wire: Wire) -> None:
    for _ in range(3):
        await wire.enqueue()
    await wire.enqueue(scheduled_at=moment(wire.clock.now() + 10_000))
    await wire.claim()
    wire.clock.advance(2)
    stats = await wire.call(spooled.GetQueueStatsRequest(queue_name="q"))
    assert stats == spooled.GetQueueStatsResponse(
        queue_name="q", pending=2, scheduled=1, processing=1, total=4, max_age_ms=2_000
    )
    empty = await wire.call(spooled.GetQueueStatsRequest(queue_name="never"))
    assert empty == spooled.GetQueueStatsResponse(queue_name="never")


async def test_a_failure_says_when_it_is_tried_again(wire: Wire) -> None:
    await wire.enqueue(max_retries=1)
    job = await wire.claim()
    response = await wire.call(spooled.FailRequest(job_id=job.id, error="broken"))
    assert response == spooled.FailResponse(success=True, will_retry=True, next_retry_delay_secs=60)
    wire.clock.advance(60)
    job = await wire.claim()
    assert (job.retry_count, job.last_error) == (1, "broken")
    response = await wire.call(spooled.FailRequest(job_id=job.id, error="again", retry=True))
    assert response == spooled.FailResponse(success=True)


async def test_retry_false_is_a_dead_letter(wire: Wire) -> None:
    await wire.enqueue()
    job = await wire.claim()
    response = await wire.call(spooled.FailRequest(job_id=job.id, error="no", retry=False))
    assert response == spooled.FailResponse(success=True)
    job = (await wire.call(spooled.GetJobRequest(job_id=job.id))).job
    assert job.status == spooled.JOB_STATUS_DEADLETTER


async def test_refusals_to_settle_have_the_texts_that_sdks_read(wire: Wire) -> None:
    await wire.enqueue()
    job = await wire.claim()

    def complete(**changes: str) -> spooled.CompleteRequest:
        fields: dict[str, Any] = {
            "job_id": job.id,
            "worker_id": "w",
            "lease_id": job.lease_id,
            **changes,
        }
        return spooled.CompleteRequest(**fields)

    with answered("NOT_FOUND", "no job"):
        await wire.call(complete(job_id="unknown"))
    with answered("FAILED_PRECONDITION", "does not match the job's current lease"):
        await wire.call(complete(lease_id="stale"))
    with answered("FAILED_PRECONDITION", "does not match the job's current lease"):
        await wire.call(complete(worker_id="other", lease_id=""))
    wire.clock.advance(31)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.call(complete())
    # SDKs compare the whole text.
    assert caught.value.details() == "Lease expired"

    async def is_back() -> bool:
        found = await wire.call(spooled.GetJobRequest(job_id=job.id))
        return bool(found.job.status == spooled.JOB_STATUS_PENDING)

    # Taking back a lease is the timer's, a moment after it ran out.
    await aeventually(is_back)
    job = await wire.claim()
    await wire.call(complete(lease_id=job.lease_id))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.call(complete(lease_id=job.lease_id))
    assert caught.value.details() == "Job is already completed"


async def test_the_guides_names_of_fields_are_understood(wire: Wire) -> None:
    for _ in range(3):
        await wire.enqueue()
    request = spooled.DequeueRequest(queue_name="q", worker_id="w", limit=2)
    jobs = (await wire.call(request)).jobs
    assert len(jobs) == 2
    renewal = spooled.RenewLeaseRequest(job_id=jobs[0].id, lease_duration_secs=100)
    renewed = await wire.call(renewal)
    assert renewed.new_expires_at == moment(wire.clock.now() + 100_000)
    await wire.call(spooled.CompleteRequest(job_id=jobs[0].id))


async def test_a_strict_server_wants_the_lease_as_spooled_cloud_does(tmp_path: Path) -> None:
    async with Wire(tmp_path, require_lease_id=True) as wire:
        await wire.enqueue()
        job = await wire.claim()
        for request in (
            spooled.CompleteRequest(job_id=job.id, worker_id="w"),
            spooled.FailRequest(job_id=job.id, worker_id="w", error="x"),
            spooled.RenewLeaseRequest(job_id=job.id, worker_id="w"),
        ):
            with answered("INVALID_ARGUMENT", "lease_id is required"):
                await wire.call(request)
        await wire.call(spooled.CompleteRequest(job_id=job.id, lease_id=job.lease_id))


async def test_a_rate_limit_says_how_long_to_wait(tmp_path: Path) -> None:
    async with Wire(tmp_path, rate_limit=2) as wire:
        for _ in range(4):
            await wire.enqueue()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await wire.enqueue()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(caught.value.trailing_metadata())["retry-after"] == "1"
        assert "limit reached" not in caught.value.details()
        wire.clock.advance(1)
        await wire.enqueue()
        await wire.enqueue()
        with answered("RESOURCE_EXHAUSTED"):
            await wire.enqueue()


async def test_a_worker_registers_beats_and_leaves(wire: Wire) -> None:
    request = spooled.RegisterWorkerRequest(queue_name="q", hostname="h", worker_id="w")
    response = await wire.call(request, "Register")
    assert (response.worker_id, response.lease_duration_secs) == ("w", 30)
    assert response.heartbeat_interval_secs == 10
    again = await wire.call(request, "Register")
    assert again.worker_id == "w"
    beat = await wire.call(spooled.HeartbeatRequest(worker_id="w", current_jobs=1))
    assert beat == spooled.HeartbeatResponse(acknowledged=True)
    assert (await wire.call(spooled.DeregisterRequest(worker_id="w"))).success
    with answered("NOT_FOUND", "no worker 'w'"):
        await wire.call(spooled.HeartbeatRequest(worker_id="w"))
    named = await wire.call(spooled.RegisterWorkerRequest(queue_name="q"), "Register")
    assert named.worker_id


async def test_thousands_of_calls_at_once_are_all_answered(wire: Wire) -> None:
    # Twice what gRPC lets wait unless it is told otherwise.
    request = spooled.EnqueueRequest(queue_name="q")
    answers = await asyncio.gather(*(wire.call(request) for _ in range(2_000)))
    assert all(answer.created for answer in answers)
