"""The official SDK's gRPC client does every call against our server, unaware of the difference."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

import pytest
from spooled.errors import (
    AuthenticationError,
    ConflictError,
    NotFoundError,
    RateLimitError,
    ValidationError,
)
from spooled.grpc import (
    GrpcCompleteRequest,
    GrpcDequeueRequest,
    GrpcFailRequest,
    GrpcJob,
    GrpcRenewLeaseRequest,
    ProcessRequest,
    SpooledGrpcClient,
)

from tests.support import forked
from tests.support.server_process import ServerProcess


@pytest.fixture
def sdk(server: ServerProcess) -> Iterator[SpooledGrpcClient]:
    with SpooledGrpcClient(address=server.address, api_key=server.api_key) as client:
        assert client.wait_for_ready(timeout=10)
        yield client


def claim(sdk: SpooledGrpcClient, queue: str, **options: int) -> GrpcJob:
    (job,) = sdk.queue.dequeue(queue, "w", **options).jobs
    return job


def test_a_job_from_enqueue_to_result(sdk: SpooledGrpcClient, queue: str) -> None:
    key = uuid.uuid4().hex
    payload = {"to": "é", "count": 3, "nested": {"list": [1, None, True, 1.5]}}
    options = {"priority": 7, "max_retries": 2, "timeout_seconds": 60, "tags": {"a": "b"}}
    first = sdk.queue.enqueue(queue, payload, idempotency_key=key, **options)
    again = sdk.queue.enqueue(queue, payload, idempotency_key=key)
    assert (first.created, again.created) == (True, False)
    assert first.job_id == again.job_id
    job = claim(sdk, queue, lease_duration_secs=60)
    assert (job.id, job.payload, job.status) == (first.job_id, payload, "processing")
    assert (job.priority, job.max_retries, job.timeout_seconds) == (7, 2, 60)
    assert (job.assigned_worker_id, job.idempotency_key) == ("w", key)
    renewed = sdk.queue.renew_lease(job.id, "w", 90, lease_id=job.lease_id)
    assert renewed.success
    assert renewed.new_expires_at > datetime.now(timezone.utc) + timedelta(seconds=80)
    assert sdk.queue.complete(job.id, "w", {"sent": True}, lease_id=job.lease_id).success
    done = sdk.queue.get_job(job.id).job
    assert (done.status, done.result) == ("completed", {"sent": True})
    stats = sdk.queue.get_queue_stats(queue)
    assert (stats.completed, stats.total, stats.pending) == (1, 1, 0)


def test_an_empty_queue_answers_with_no_jobs(sdk: SpooledGrpcClient, queue: str) -> None:
    assert sdk.queue.dequeue(queue, "w", batch_size=100).jobs == []


def test_failing_retries_and_gives_up(sdk: SpooledGrpcClient, queue: str) -> None:
    for _ in range(3):
        sdk.queue.enqueue(queue, {})
    for retry, will_retry, delay in ((None, True, 60), (True, True, 60), (False, False, 0)):
        job = claim(sdk, queue)
        answer = sdk.queue.fail(job.id, "w", "broken", retry=retry, lease_id=job.lease_id)
        assert answer.success
        assert (answer.will_retry, answer.next_retry_delay_secs) == (will_retry, delay)
    assert sdk.queue.get_queue_stats(queue).deadletter == 1


def test_a_lost_lease_is_told_as_one(sdk: SpooledGrpcClient, queue: str) -> None:
    sdk.queue.enqueue(queue, {})
    job = claim(sdk, queue)
    with pytest.raises(ConflictError) as caught:
        sdk.queue.complete(job.id, "w", lease_id="stale")
    assert caught.value.code == "LEASE_EXPIRED"
    sdk.queue.complete(job.id, "w", lease_id=job.lease_id)
    with pytest.raises(ConflictError, match="Job is already completed") as caught:
        sdk.queue.complete(job.id, "w", lease_id=job.lease_id)
    assert caught.value.code != "LEASE_EXPIRED"


def test_other_errors_are_told_as_their_kind(
    sdk: SpooledGrpcClient, server: ServerProcess, queue: str
) -> None:
    with pytest.raises(NotFoundError):
        sdk.queue.get_job("unknown")
    with pytest.raises(ValidationError, match="queue_name"):
        sdk.queue.enqueue(".hidden", {})
    with (
        SpooledGrpcClient(address=server.address, api_key="sp_test_wrong") as stranger,
        pytest.raises(AuthenticationError),
    ):
        stranger.queue.enqueue(queue, {})


def test_a_rate_limit_says_how_long_to_wait(
    start_server: Callable[..., ServerProcess], queue: str
) -> None:
    limited = start_server("--rate-limit", "0.05")
    with SpooledGrpcClient(address=limited.address, api_key=limited.api_key) as client:
        client.queue.enqueue(queue, {})
        with pytest.raises(RateLimitError) as caught:
            client.queue.enqueue(queue, {})
        assert 1 <= caught.value.retry_after <= 20


def test_a_stream_gets_jobs_as_they_come(sdk: SpooledGrpcClient, queue: str) -> None:
    stream = sdk.queue.stream_jobs(queue, "w", lease_duration_secs=30)
    for number in range(3):
        sdk.queue.enqueue(queue, {"number": number})
        job = next(stream)
        assert job.payload == {"number": number}
        assert sdk.queue.complete(job.id, "w", lease_id=job.lease_id).success
    stream.cancel()


def test_a_conversation_claims_renews_settles_and_reports(
    sdk: SpooledGrpcClient, queue: str
) -> None:
    for number in range(2):
        sdk.queue.enqueue(queue, {"number": number})
    stream = sdk.queue.process_jobs()
    answers = stream.receive()
    stream.send(ProcessRequest(dequeue=GrpcDequeueRequest(queue_name=queue, worker_id="w")))
    job = next(answers).job
    who = {"job_id": job.id, "worker_id": "w", "lease_id": job.lease_id}
    stream.send(ProcessRequest(renew_lease=GrpcRenewLeaseRequest(**who, extension_secs=60)))
    assert next(answers).renew_lease.success
    stream.send(ProcessRequest(complete=GrpcCompleteRequest(**who, result={"ok": True})))
    assert next(answers).complete.success
    stream.send(ProcessRequest(complete=GrpcCompleteRequest(**who)))
    assert next(answers).error == "FAILED_PRECONDITION: Job is already completed"
    stale = {**who, "lease_id": "stale"}
    stream.send(ProcessRequest(dequeue=GrpcDequeueRequest(queue_name=queue, worker_id="w")))
    job = next(answers).job
    stale["job_id"] = job.id
    stream.send(ProcessRequest(complete=GrpcCompleteRequest(**stale)))
    assert next(answers).error_code == "LEASE_EXPIRED"
    who = {"job_id": job.id, "worker_id": "w", "lease_id": job.lease_id}
    stream.send(ProcessRequest(fail=GrpcFailRequest(**who, error="broken", retry=False)))
    answer = next(answers).fail
    assert (answer.success, answer.will_retry) == (True, False)
    stream.end()
    assert list(answers) == []


def test_a_worker_registers_beats_and_leaves(sdk: SpooledGrpcClient, queue: str) -> None:
    name = f"worker-{uuid.uuid4().hex}"
    first = sdk.workers.register(queue, "host", worker_id=name, metadata={"zone": "a"})
    again = sdk.workers.register(queue, "host", worker_id=name)
    assert first.worker_id == again.worker_id == name
    assert (first.lease_duration_secs, first.heartbeat_interval_secs) == (30, 10)
    beat = sdk.workers.heartbeat(name, current_jobs=1)
    assert (beat.acknowledged, beat.should_drain) == (True, False)
    assert sdk.workers.deregister(name).success
    with pytest.raises(NotFoundError):
        sdk.workers.heartbeat(name, current_jobs=0)
    assert sdk.workers.register(queue, "host").worker_id


ROUND_TRIP = """
import sys
from {first} import {first_name}
from {second} import {second_name}
from spooled_pipelines.wire import spooled_v1
from spooled.grpc.stubs import EnqueueRequest
ours = spooled_v1.EnqueueRequest(queue_name="q", priority=5)
theirs = EnqueueRequest.FromString(ours.SerializeToString())
assert (theirs.queue_name, theirs.priority) == ("q", 5)
client = SpooledGrpcClient(address=sys.argv[1], api_key=sys.argv[2])
job_id = client.queue.enqueue(sys.argv[3], {{"n": 1}}).job_id
with connect(sys.argv[1], api_key=sys.argv[2]) as own:
    job = own.get_job(job_id)
    assert job.payload == {{"n": 1}}, job
    own.enqueue(sys.argv[3], {{"n": 2}})
assert client.queue.get_queue_stats(sys.argv[3]).pending == 2
client.close()
"""
BOTH = (("spooled.grpc", "SpooledGrpcClient"), ("spooled_pipelines", "connect"))


@pytest.mark.parametrize(("first", "second"), [BOTH, BOTH[::-1]])
def test_both_packages_live_in_one_process(
    server: ServerProcess, queue: str, first: tuple[str, str], second: tuple[str, str]
) -> None:
    script = ROUND_TRIP.format(
        first=first[0], first_name=first[1], second=second[0], second_name=second[1]
    )
    ended = forked.run(
        [sys.executable, "-c", script, server.address, server.api_key, queue],
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
