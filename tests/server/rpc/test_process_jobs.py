"""ProcessJobs: claims and settles over one stream; refusals come in band and it goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from spooled_pipelines.wire import methods
from spooled_pipelines.wire import spooled_v1 as spooled
from spooled_pipelines.wire.spooled_v1 import (
    CompleteRequest,
    DequeueRequest,
    FailRequest,
    HeartbeatRequest,
    Job,
    ProcessRequest,
    RenewLeaseRequest,
    SubscribeRequest,
)
from tests.support.wire import Wire, struct

TURNS = 200


async def turn() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def dequeue(count: int = 1, queue_name: str = "q") -> ProcessRequest:
    request = DequeueRequest(queue_name=queue_name, worker_id="w", batch_size=count)
    return ProcessRequest(dequeue=request)


def complete(job: Job, **changes: Any) -> ProcessRequest:
    fields = {"job_id": job.id, "worker_id": "w", "lease_id": job.lease_id, **changes}
    return ProcessRequest(complete=CompleteRequest(**fields))


@pytest.mark.parametrize("service", [methods.QUEUE_SERVICE, methods.WORKER_SERVICE])
async def test_claim_renew_complete_and_fail(wire: Wire, service: str) -> None:
    ids = [await wire.enqueue() for _ in range(2)]
    async with wire.conversation("ProcessJobs", service) as stream:
        await stream.write(dequeue(2))
        jobs = [(await stream.read()).job for _ in range(2)]
        assert [job.id for job in jobs] == ids
        renewal = RenewLeaseRequest(job_id=ids[0], worker_id="w", lease_id=jobs[0].lease_id)
        await stream.write(ProcessRequest(renew_lease=renewal))
        assert (await stream.read()).renew_lease.success
        await stream.write(complete(jobs[0], result=struct(ok=True)))
        assert (await stream.read()).complete.success
        failure = FailRequest(job_id=ids[1], lease_id=jobs[1].lease_id, error="x", retry=False)
        await stream.write(ProcessRequest(fail=failure))
        answer = (await stream.read()).fail
        assert (answer.success, answer.will_retry) == (True, False)
        await stream.done_writing()
        assert await stream.read() is None
        assert (await stream.status())[0] == "OK"


async def test_a_claim_waits_for_jobs_that_are_not_there_yet(wire: Wire) -> None:
    async with wire.conversation("ProcessJobs") as stream:
        await stream.write(dequeue(2))
        for _ in range(2):
            job_id = await wire.enqueue()
            assert (await stream.read()).job.id == job_id
        # Two were asked for, and no third comes.
        await wire.enqueue()
        reading = asyncio.ensure_future(stream.read())
        await turn()
        assert not reading.done()
        await stream.write(dequeue())
        assert (await reading).job.id


async def test_asking_again_replaces_what_is_still_open(wire: Wire) -> None:
    async with wire.conversation("ProcessJobs") as stream:
        for _ in range(5):
            await stream.write(dequeue(3))
        # Answered in turn, so all five have been read by now.
        await stream.write(ProcessRequest())
        assert (await stream.read()).error.code == "INVALID_ARGUMENT"
        for _ in range(5):
            await wire.enqueue()
        for _ in range(3):
            assert (await stream.read()).job.id
        await turn()
        stats = await wire.call(spooled.GetQueueStatsRequest(queue_name="q"))
        assert (stats.processing, stats.pending) == (3, 2)


async def test_refusals_come_in_band_with_their_code(wire: Wire) -> None:
    await wire.enqueue()
    async with wire.conversation("ProcessJobs") as stream:
        await stream.write(dequeue())
        job = (await stream.read()).job
        for request, code, text in (
            (complete(job, job_id="unknown"), "NOT_FOUND", "no job"),
            (complete(job, lease_id="stale"), "LEASE_EXPIRED", "does not match"),
            (ProcessRequest(fail=FailRequest(job_id=job.id)), "INVALID_ARGUMENT", "error"),
            (dequeue(101), "INVALID_ARGUMENT", "batch_size"),
            (dequeue(1, ".q"), "INVALID_ARGUMENT", "queue_name"),
            (ProcessRequest(), "INVALID_ARGUMENT", "empty"),
            (ProcessRequest(heartbeat=HeartbeatRequest(worker_id="x")), "NOT_FOUND", "no worker"),
        ):
            await stream.write(request)
            error = (await stream.read()).error
            assert (error.code, text in error.message) == (code, True), error
        wire.clock.advance(31)
        await stream.write(complete(job))
        assert (await stream.read()).error.message == "Lease expired"
        await stream.write(dequeue())
        job = (await stream.read()).job
        await stream.write(complete(job))
        assert (await stream.read()).complete.success
        await stream.write(complete(job))
        error = (await stream.read()).error
        assert (error.code, error.message) == (
            "FAILED_PRECONDITION",
            "Job is already completed",
        )


async def test_a_malformed_message_ends_the_stream(wire: Wire) -> None:
    async with wire.conversation("ProcessJobs") as stream:
        await stream.write(b"\xff\xff\xff")
        assert await stream.read() is None
        assert await stream.status() == (
            "INVALID_ARGUMENT",
            "the message is not a valid ProcessRequest",
        )


async def test_a_subscription_keeps_max_concurrent_jobs_unsettled(wire: Wire) -> None:
    for _ in range(5):
        await wire.enqueue()
    subscription = SubscribeRequest(queue_name="q", worker_id="w", max_concurrent=2)
    async with wire.conversation("ProcessJobs") as stream:
        await stream.write(ProcessRequest(subscribe=subscription))
        jobs = [(await stream.read()).job for _ in range(2)]
        await turn()
        stats = await wire.call(spooled.GetQueueStatsRequest(queue_name="q"))
        assert (stats.processing, stats.pending) == (2, 3)
        # Settled on this stream, by a unary call, or run out: each makes room for one.
        await stream.write(complete(jobs[0]))
        kinds = {}
        for _ in range(2):
            answer = await stream.read()
            kinds[answer.WhichOneof("response")] = answer
        assert sorted(kinds) == ["complete", "job"]
        await wire.call(CompleteRequest(job_id=jobs[1].id))
        assert (await stream.read()).job.id
        wire.clock.advance(30)
        retried = [(await stream.read()).job for _ in range(2)]
        assert [job.retry_count for job in retried] == [1, 1]


async def test_a_heartbeat_is_acknowledged_on_the_stream(wire: Wire) -> None:
    beat = ProcessRequest(heartbeat=HeartbeatRequest(worker_id="w", current_jobs=1))
    async with wire.conversation("ProcessJobs") as stream:
        subscription = SubscribeRequest(queue_name="q", worker_id="w")
        await stream.write(ProcessRequest(subscribe=subscription))
        await stream.write(beat)
        assert (await stream.read()).heartbeat_ack.acknowledged
    await wire.call(spooled.RegisterWorkerRequest(queue_name="q", worker_id="w"), "Register")
    async with wire.conversation("ProcessJobs") as stream:
        await stream.write(beat)
        assert (await stream.read()).heartbeat_ack.acknowledged


async def test_an_ended_stream_claims_nothing_more(wire: Wire) -> None:
    async with wire.conversation("ProcessJobs") as stream:
        await stream.write(dequeue(5))
        await stream.done_writing()
        assert await stream.read() is None
    await wire.enqueue()
    # A claim that was under way at the stream's end may have taken the job: it goes back.
    await wire.server._background.drain()
    assert (await wire.claim()).id
