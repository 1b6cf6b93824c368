"""ClaimChunks, RenewChunk, and the outcomes of chunks, over the wire."""

from __future__ import annotations

from typing import Any

import pytest

from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import keys_v1 as keys
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.wire import Wire, answered, struct

COMPLETED = spooled.JobStatus.JOB_STATUS_COMPLETED
PENDING = spooled.JobStatus.JOB_STATUS_PENDING
DEADLETTER = spooled.JobStatus.JOB_STATUS_DEADLETTER


async def claimed(wire: Wire, **fields: Any) -> batch.LeasedChunk:
    fields = {"queue_name": "q", "worker_id": "w", "max_jobs": 100, **fields}
    (chunk,) = (await wire.call(batch.ClaimChunksRequest(**fields))).chunks
    return chunk


def outcomes(chunk: batch.LeasedChunk, **fields: Any) -> batch.ChunkOutcomes:
    held: dict[str, Any] = {
        "queue_name": chunk.queue_name,
        "worker_id": "w",
        "lease_id": chunk.lease_id,
        "job_ids": chunk.job_ids,
    }
    return batch.ChunkOutcomes(**{**held, **fields})


async def settled(wire: Wire, *chunks: batch.ChunkOutcomes, **options: Any) -> list[Any]:
    async with wire.conversation("Settle", **options) as stream:
        await stream.write(batch.SettleRequest(chunks=chunks))
        return [list(chunk.exceptions) for chunk in (await stream.read()).chunks]


async def job(wire: Wire, job_id: str) -> spooled.Job:
    got: spooled.Job = (await wire.call(spooled.GetJobRequest(job_id=job_id))).job
    return got


async def test_a_chunk_says_of_each_job_what_a_dequeue_says(wire: Wire) -> None:
    tags = {"traceparent": "00-1", "tracestate": "a=b"}
    await wire.enqueue(payload=struct(n=1), idempotency_key="k", priority=3, tags=tags)
    await wire.enqueue(payload=struct(n=2), max_retries=7, timeout_seconds=20)
    chunk = await claimed(wire)
    first, second = [await job(wire, job_id) for job_id in chunk.job_ids]
    assert list(chunk.payloads) == [each.payload.SerializeToString() for each in (first, second)]
    assert chunk.lease_id == first.lease_id == second.lease_id
    assert chunk.lease_expires_at == first.lease_expires_at
    assert chunk.organization_id == first.organization_id
    assert list(chunk.priorities) == [3, 0]
    assert list(chunk.max_retries) == [3, 7]
    assert list(chunk.timeout_seconds) == [300, 20]
    assert list(chunk.idempotency_keys) == ["k", ""]
    assert list(chunk.traceparents) == ["00-1", ""]
    assert list(chunk.tracestates) == ["a=b", ""]
    # What all have in common comes once, and zeros not at all.
    assert list(chunk.created_at) == [first.created_at.ToMilliseconds()]
    assert list(chunk.retry_counts) == []
    assert not (await wire.call(batch.ClaimChunksRequest(queue_name="q", worker_id="w"))).chunks


async def test_outcomes_come_back_as_chunks_with_exceptions_by_index(wire: Wire) -> None:
    for _ in range(6):
        await wire.enqueue()
    chunk = await claimed(wire)
    results = [struct(n=n).SerializeToString() for n in range(5)]
    (exceptions,) = await settled(
        wire,
        outcomes(
            chunk,
            results=[*results, b"\xff\xff"],
            without_result=[1],
            exceptions=[
                batch.JobException(index=2, failed=batch.Failure(error="x", retry_delay_secs=9)),
                batch.JobException(index=3, failed=batch.Failure(error="x", final=True)),
                batch.JobException(index=4, returned=batch.Return()),
            ],
        ),
    )
    assert [(each.index, each.settled.status) for each in exceptions] == [
        *((2, PENDING), (3, DEADLETTER), (4, PENDING), (5, 0))
    ]
    assert exceptions[0].settled.next_retry_delay_secs == 9
    assert exceptions[3].settled.code == "INVALID_ARGUMENT"
    assert exceptions[3].settled.message.startswith("result is not")
    jobs = [await job(wire, job_id) for job_id in chunk.job_ids]
    assert [each.status for each in jobs[:2]] == [COMPLETED] * 2
    assert jobs[0].result == struct(n=0)
    assert [each.HasField("result") for each in jobs[:2]] == [True, False]


async def test_a_chunk_half_done_leaves_each_job_where_it_is(wire: Wire) -> None:
    for _ in range(4):
        await wire.enqueue()
    chunk = await claimed(wire)
    assert await settled(wire, outcomes(chunk, job_ids=chunk.job_ids[:2])) == [[]]
    await wire.call(
        batch.RenewChunkRequest(
            queue_name="q", worker_id="w", lease_id=chunk.lease_id, job_ids=chunk.job_ids[3:]
        )
    )
    wire.clock.advance(29)
    renewed = await wire.call(
        batch.RenewChunkRequest(
            queue_name="q",
            worker_id="w",
            lease_id=chunk.lease_id,
            job_ids=chunk.job_ids,
            extension_secs=60,
        )
    )
    assert list(renewed.lost) == [0, 1]
    assert renewed.new_expires_at.ToMilliseconds() == wire.clock.now() + 60_000
    wire.clock.advance(61)
    await wire.store.sweep()
    jobs = [await job(wire, job_id) for job_id in chunk.job_ids]
    assert [each.status for each in jobs] == [COMPLETED, COMPLETED, PENDING, PENDING]
    (refused,) = await settled(wire, outcomes(chunk))
    assert [(each.index, each.settled.code) for each in refused] == [
        *((0, "FAILED_PRECONDITION"), (1, "FAILED_PRECONDITION")),
        *((2, "LEASE_EXPIRED"), (3, "LEASE_EXPIRED")),
    ]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"lease_id": ""}, "lease_id"),
        ({"job_ids": []}, "job_ids"),
        ({"job_ids": ["a", "a"]}, "twice"),
        ({"queue_name": "-"}, "queue_name"),
        ({"results": [b"", b""]}, "results"),
        ({"without_result": [1]}, "without_result"),
        ({"exceptions": [batch.JobException(index=0)]}, "empty"),
        ({"exceptions": [batch.JobException(index=-1, returned=batch.Return())]}, "index"),
        (
            {"exceptions": [batch.JobException(failed=batch.Failure(error=""))]},
            "error",
        ),
    ],
)
async def test_outcomes_that_are_not_valid_settle_nothing(
    wire: Wire, wrong: dict[str, Any], text: str
) -> None:
    await wire.enqueue()
    chunk = await claimed(wire)
    (exceptions,) = await settled(wire, outcomes(chunk, **wrong))
    codes = {each.settled.code for each in exceptions}
    assert codes == ({"INVALID_ARGUMENT"} if wrong.get("job_ids") != [] else set())
    assert all(text in each.settled.message for each in exceptions)
    assert await settled(wire, outcomes(chunk)) == [[]]


async def test_a_message_of_too_many_is_refused_whole(wire: Wire) -> None:
    await wire.enqueue()
    chunk = await claimed(wire)
    many = outcomes(chunk, job_ids=[*chunk.job_ids, *map(str, range(10_000))])
    async with wire.conversation("Settle") as stream:
        await stream.write(batch.SettleRequest(chunks=[many]))
        assert (await stream.status())[0] == "INVALID_ARGUMENT"
    with answered("INVALID_ARGUMENT", "max_jobs"):
        await claimed(wire, max_jobs=10_001)
    assert await settled(wire, outcomes(chunk)) == [[]]


async def test_a_key_of_some_queues_takes_and_settles_theirs_alone(wire: Wire) -> None:
    for queue_name in ("mine", "theirs"):
        await wire.enqueue(queue_name)
    mine, theirs = [await claimed(wire, queue_name=name) for name in ("mine", "theirs")]
    request = keys.CreateKeyRequest(name="test", role="work", queues=["mine"])
    key = (await wire.call(request)).secret
    # Nor do they pass as jobs of a queue that is allowed.
    disguised = outcomes(theirs, queue_name="mine")
    first, second, third = await settled(wire, outcomes(theirs), disguised, outcomes(mine), key=key)
    assert [each.settled.code for each in (*first, *second)] == ["PERMISSION_DENIED", "NOT_FOUND"]
    assert third == []
    for call in (
        batch.ClaimChunksRequest(queue_name="theirs", worker_id="w"),
        batch.RenewChunkRequest(
            queue_name="theirs", worker_id="w", lease_id=theirs.lease_id, job_ids=theirs.job_ids
        ),
    ):
        with answered("PERMISSION_DENIED"):
            await wire.call(call, key=key)
