"""Settle: many outcomes in a message, answered in order after the commit."""

from __future__ import annotations

from typing import Any

import pytest

from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import keys_v1 as keys
from spooled_pipelines.wire import spooled_v1 as spooled
from spooled_pipelines.wire.spooled_v1 import Job
from tests.support.wire import Wire, struct

COMPLETED = spooled.JobStatus.JOB_STATUS_COMPLETED
PENDING = spooled.JobStatus.JOB_STATUS_PENDING
DEADLETTER = spooled.JobStatus.JOB_STATUS_DEADLETTER


def outcome(job: Job, **what: Any) -> batch.JobOutcome:
    return batch.JobOutcome(job_id=job.id, worker_id="w", lease_id=job.lease_id, **what)


def completed(job: Job, **fields: Any) -> batch.JobOutcome:
    result = struct(**fields).SerializeToString() if fields else None
    return outcome(job, completed=batch.Completion(result=result))


def asked(*outcomes: batch.JobOutcome) -> batch.SettleRequest:
    return batch.SettleRequest(outcomes=outcomes)


async def test_outcomes_are_answered_in_their_order(wire: Wire) -> None:
    for _ in range(4):
        await wire.enqueue()
    jobs = [await wire.claim() for _ in range(4)]
    async with wire.conversation("Settle") as stream:
        failed = batch.Failure(error="later", retry_delay_secs=5)
        await stream.write(asked(completed(jobs[0], ok=True), outcome(jobs[1], failed=failed)))
        final = batch.Failure(error="never", final=True)
        returned = outcome(jobs[3], returned=batch.Return())
        await stream.write(asked(outcome(jobs[2], failed=final), returned))
        await stream.done_writing()
        first, second = (await stream.read()).settled, (await stream.read()).settled
        assert [each.status for each in first] == [COMPLETED, PENDING]
        assert first[1].next_retry_delay_secs == 5
        assert [each.status for each in second] == [DEADLETTER, PENDING]
        assert await stream.read() is None
    kept = (await wire.call(spooled.GetJobRequest(job_id=jobs[0].id))).job
    assert kept.result == struct(ok=True)
    assert (await wire.claim()).id == jobs[3].id


@pytest.mark.parametrize(
    ("wrong", "code", "text"),
    [
        ({"lease_id": "other"}, "LEASE_EXPIRED", "does not match"),
        ({"lease_id": ""}, "INVALID_ARGUMENT", "lease_id"),
        ({"job_id": "00000000-0000-8000-8000-000000000999"}, "NOT_FOUND", "no job"),
        ({"completed": batch.Completion(result=b"\xff\xff")}, "INVALID_ARGUMENT", "result"),
        ({"failed": batch.Failure(error="")}, "INVALID_ARGUMENT", "error"),
        (
            {"failed": batch.Failure(error="x", retry_delay_secs=-1)},
            "INVALID_ARGUMENT",
            "retry_delay_secs",
        ),
        ({}, "INVALID_ARGUMENT", "empty"),
    ],
)
async def test_what_is_refused_is_said_and_the_others_are_done(
    wire: Wire, wrong: dict[str, object], code: str, text: str
) -> None:
    await wire.enqueue()
    await wire.enqueue()
    bad, good = await wire.claim(), await wire.claim()
    said = outcome(bad)
    for name, value in wrong.items():
        if isinstance(value, str):
            setattr(said, name, value)
            said.completed.SetInParent()
        else:
            getattr(said, name).CopyFrom(value)
    async with wire.conversation("Settle") as stream:
        await stream.write(asked(said, completed(good)))
        refused, done = (await stream.read()).settled
        assert (refused.status, refused.code) == (0, code)
        assert text in refused.message
        assert done.status == COMPLETED


async def test_a_message_of_too_many_is_refused_whole(wire: Wire) -> None:
    await wire.enqueue()
    job = await wire.claim()
    async with wire.conversation("Settle") as stream:
        await stream.write(asked(*[completed(job)] * 1_001))
        code, message = await stream.status()
        assert (code, "1000" in message) == ("INVALID_ARGUMENT", True)
    kept = (await wire.call(spooled.GetJobRequest(job_id=job.id))).job
    assert kept.status == spooled.JobStatus.JOB_STATUS_PROCESSING


async def test_a_key_of_some_queues_settles_theirs_alone(wire: Wire) -> None:
    await wire.enqueue("mine")
    await wire.enqueue("theirs")
    mine, theirs = await wire.claim("mine"), await wire.claim("theirs")
    request = keys.CreateKeyRequest(name="test", role="work", queues=["mine"])
    key = await wire.call(request)
    async with wire.conversation("Settle", key=key.secret) as stream:
        await stream.write(asked(completed(theirs), completed(mine)))
        refused, done = (await stream.read()).settled
        assert (refused.code, done.status) == ("PERMISSION_DENIED", COMPLETED)
