"""Generations, cancel, retry and attempts over the wire, as batch.proto says it."""

from __future__ import annotations

from typing import Any

import pytest

from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import queue_admin_v1 as admin
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.wire import Wire, answered, struct


async def upload(wire: Wire, *keys: str, generation: int = 0) -> batch.BatchStats:
    """One chunk of rows, then the seal; what the seal answers."""
    opening = batch.OpenBatch(batch_id="b", queue_name="q", upload_id="u", generation=generation)
    payloads = [struct(key=key).SerializeToString() for key in keys]
    chunk = batch.JobChunk(payloads=payloads, idempotency_keys=keys)
    async with wire.conversation("EnqueueBatch") as stream:
        await stream.write(batch.EnqueueBatchRequest(open=opening))
        await stream.write(batch.EnqueueBatchRequest(chunk=chunk))
        await stream.done_writing()
        assert (await stream.read()).opened.generation == generation
        assert (await stream.read()).outcome.created == len(keys)
    sealing = batch.SealBatchRequest(batch_id="b", generation=generation)
    stats: batch.BatchStats = (await wire.call(sealing)).stats
    return stats


async def cancelled(wire: Wire, **fields: Any) -> tuple[int, int, int]:
    answer = await wire.call(batch.CancelBatchRequest(batch_id="b", **fields))
    return answer.cancelled, answer.running, answer.done


async def fail(wire: Wire, error: str) -> str:
    job = await wire.claim()
    request = spooled.FailRequest(job_id=job.id, lease_id=job.lease_id, error=error, retry=False)
    await wire.call(request)
    return str(job.id)


async def test_cancel_answers_how_many_are_cancelled_running_and_done(wire: Wire) -> None:
    await upload(wire, "x", "y", "z")
    await fail(wire, "boom")
    await wire.claim()
    assert await cancelled(wire) == (1, 1, 1)
    assert await cancelled(wire) == (1, 1, 1)


async def test_a_cancel_of_an_older_generation_leaves_the_newer_alone(wire: Wire) -> None:
    await upload(wire, "x", "y")
    stats = await upload(wire, "x1", "y1", "z1", generation=1)
    assert (stats.generation, stats.total, stats.sealed) == (1, 3, True)
    # Generation 0 is one of its own, not the same as none given.
    assert await cancelled(wire, generation=0) == (2, 0, 0)
    assert await cancelled(wire) == (5, 0, 0)
    with answered("INVALID_ARGUMENT", "generation"):
        await cancelled(wire, generation=-1)


async def test_an_older_upload_is_stopped_in_the_middle(wire: Wire) -> None:
    opening = batch.OpenBatch(batch_id="b", queue_name="q", upload_id="u")
    async with wire.conversation("EnqueueBatch") as stream:
        await stream.write(batch.EnqueueBatchRequest(open=opening))
        await stream.read()
        await upload(wire, "x1", generation=1)
        chunk = batch.JobChunk(payloads=[b""], idempotency_keys=["x"])
        await stream.write(batch.EnqueueBatchRequest(chunk=chunk))
        code, message = await stream.status()
    assert (code, "begun again" in message) == ("FAILED_PRECONDITION", True)


async def test_a_cancel_wakes_who_watches(wire: Wire) -> None:
    await upload(wire, "x")
    request = batch.WatchBatchRequest(batch_ids=["b"])
    async with wire.stream(request, "WatchBatch") as stream:
        assert (await stream.read()).pending == 1
        await cancelled(wire)
        last = await stream.read()
        assert (last.cancelled, last.settled) == (1, True)
        assert await stream.read() is None


async def test_a_retry_hands_dead_letters_to_a_waiting_stream(wire: Wire) -> None:
    await upload(wire, "x", "y")
    first = await fail(wire, "HTTP 503")
    await fail(wire, "HTTP 404")
    request = spooled.StreamJobsRequest(queue_name="q", worker_id="w")
    async with wire.stream(request, "StreamJobs") as stream:
        retrying = batch.RetryBatchRequest(batch_id="b", error_contains="503")
        assert (await wire.call(retrying)).retried == 1
        assert (await stream.read()).id == first
        found = (await wire.call(batch.ListAttemptsRequest(job_id=first))).attempts
        assert [(a.number, a.error, a.HasField("ended_at")) for a in found] == [
            (1, "HTTP 503", True),
            (2, "", False),
        ]


@pytest.mark.parametrize(
    "request_",
    [
        batch.CancelBatchRequest(),
        batch.RetryBatchRequest(),
        batch.RetryBatchRequest(batch_id="b", error_contains="x" * 2049),
    ],
)
async def test_what_is_out_of_bounds_is_refused(wire: Wire, request_: Any) -> None:
    with answered("INVALID_ARGUMENT"):
        await wire.call(request_)


async def test_an_id_of_a_request_is_not_one_of_another(wire: Wire) -> None:
    """Else the second would do nothing, and answer with what became of the first."""
    for queue in ("a", "a", "b"):
        await wire.enqueue(queue)
    purges = [admin.PurgeQueueRequest(queue_name=name, request_id="r") for name in ("a", "b")]
    cancelled = [(await wire.call(purge)).cancelled for purge in purges + purges]
    assert cancelled == [2, 1, 2, 1]
    redrive = admin.RedriveDeadLettersRequest(queue_name="a", request_id="r")
    assert (await wire.call(redrive)).redriven == 0


async def test_a_paused_queue_hands_out_nothing_and_says_so(wire: Wire) -> None:
    await upload(wire, "x")
    await wire.call(admin.PauseQueueRequest(queue_name="q"))
    request = spooled.StreamJobsRequest(queue_name="q", worker_id="w")
    async with wire.stream(request, "StreamJobs") as stream:
        dequeue = spooled.DequeueRequest(queue_name="q", worker_id="w")
        assert not (await wire.call(dequeue)).jobs
        stats = (await wire.call(batch.GetBatchStatsRequest(batch_ids=["b"]))).batches[0]
        assert [stall.cause for stall in stats.stalls] == [batch.Stall.CAUSE_QUEUE_PAUSED]
        await wire.call(admin.ResumeQueueRequest(queue_name="q"))
        assert (await stream.read()).queue_name == "q"


async def test_purge_and_dead_letters_over_the_wire(wire: Wire) -> None:
    await upload(wire, "x", "y", "z")
    dead = [await fail(wire, "HTTP 503"), await fail(wire, "HTTP 404")]
    listing = admin.ListDeadLettersRequest(queue_name="q", page_size=1)
    first = await wire.call(listing)
    listing.page_token = first.next_page_token
    second = await wire.call(listing)
    assert [first.jobs[0].id, second.jobs[0].id] == dead
    assert (first.jobs[0].payload, second.next_page_token) == (struct(key="x"), "")
    redrive = admin.RedriveDeadLettersRequest(queue_name="q", error_contains="404")
    assert (await wire.call(redrive)).redriven == 1
    assert (await wire.call(admin.PurgeQueueRequest(queue_name="q"))).cancelled == 2


@pytest.mark.parametrize(
    "request_",
    [
        admin.PauseQueueRequest(queue_name="-q"),
        admin.ListDeadLettersRequest(queue_name="q", page_size=1_001),
        admin.ListDeadLettersRequest(queue_name="q", page_token="x"),
        admin.RedriveDeadLettersRequest(queue_name="q", error_contains="x" * 2049),
    ],
)
async def test_what_is_out_of_bounds_for_a_queue_is_refused(wire: Wire, request_: Any) -> None:
    with answered("INVALID_ARGUMENT"):
        await wire.call(request_)
