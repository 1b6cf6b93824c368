"""Each limit of the contract: the last value that fits does, the next is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from spooled_pipelines.wire import spooled_v1 as spooled
from spooled_pipelines.wire.spooled_v1 import (
    DequeueRequest,
    EnqueueRequest,
    FailRequest,
    HeartbeatRequest,
    RegisterWorkerRequest,
    RenewLeaseRequest,
)
from spooled_pipelines.wire.well_known import Struct, Timestamp
from tests.support.wire import Wire, answered, struct

MIB = 1 << 20


def nested(depth: int) -> Struct:
    inner: dict[str, Any] = {}
    for _ in range(depth):
        inner = {"a": inner}
    return struct(**inner)


ENQUEUE_FITS: dict[str, dict[str, Any]] = {
    "queue_name": {"queue_name": "q" * 100},
    "queue_name characters": {"queue_name": "_aZ09._-"},
    "priority high": {"priority": 100},
    "priority low": {"priority": -100},
    "max_retries": {"max_retries": 100},
    "timeout_seconds": {"timeout_seconds": 86_400},
    # {"a":"..."} adds eight characters.
    "payload": {"payload": struct(a="x" * (MIB - 8))},
    # An escape of six characters from one byte.
    "payload of escapes": {"payload": struct(a="\u0001" * ((MIB - 8) // 6))},
    "payload nested": {"payload": nested(30)},
    "idempotency_key": {"idempotency_key": "é" * 255},
    "tags": {"tags": {"a": "x" * 65_000}},
    "scheduled_at": {"scheduled_at": Timestamp(seconds=253_402_300_799)},
}
ENQUEUE_FAILS: dict[str, tuple[dict[str, Any], str]] = {
    "queue_name long": ({"queue_name": "q" * 101}, "queue_name"),
    "queue_name empty": ({"queue_name": ""}, "queue_name"),
    "queue_name dot": ({"queue_name": ".q"}, "queue_name"),
    "queue_name dash": ({"queue_name": "-q"}, "queue_name"),
    "queue_name space": ({"queue_name": "a b"}, "queue_name"),
    "queue_name line": ({"queue_name": "q\n"}, "queue_name"),
    "queue_name letters": ({"queue_name": "é"}, "queue_name"),
    "priority high": ({"priority": 101}, "priority must be -100 to 100, got 101"),
    "priority low": ({"priority": -101}, "priority"),
    "max_retries": ({"max_retries": 101}, "max_retries must be 0 to 100, got 101"),
    "max_retries below": ({"max_retries": -1}, "max_retries"),
    "timeout_seconds": (
        {"timeout_seconds": 86_401},
        "timeout_seconds must be 0 to 86400, got 86401",
    ),
    "timeout_seconds below": ({"timeout_seconds": -1}, "timeout_seconds"),
    "payload": ({"payload": struct(a="x" * (MIB - 7))}, "payload is 1048577 bytes as JSON"),
    "payload of escapes": ({"payload": struct(a="\u0001" * (MIB // 6))}, "payload"),
    "payload nested": ({"payload": nested(33)}, "payload"),
    "idempotency_key": ({"idempotency_key": "k" * 256}, "idempotency_key has 256 characters"),
    "tags": ({"tags": {"a": "x" * 66_000}}, "tags"),
    "scheduled_at": ({"scheduled_at": Timestamp(seconds=253_402_300_800)}, "scheduled_at"),
    "scheduled_at nanos": ({"scheduled_at": Timestamp(seconds=1, nanos=-1)}, "scheduled_at"),
}


@pytest.mark.parametrize("name", sorted(ENQUEUE_FITS))
async def test_the_last_value_that_fits_is_stored_and_handed_out(wire: Wire, name: str) -> None:
    fields = {"queue_name": "q", **ENQUEUE_FITS[name]}
    job_id = (await wire.call(EnqueueRequest(**fields))).job_id
    job = (await wire.call(spooled.GetJobRequest(job_id=job_id))).job
    for field, value in ENQUEUE_FITS[name].items():
        if field != "tags":
            assert getattr(job, field) == value


# Refused before any store is asked.
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", sorted(ENQUEUE_FAILS))
async def test_the_next_value_is_refused_by_name(wire: Wire, name: str) -> None:
    fields, text = ENQUEUE_FAILS[name]
    with answered("INVALID_ARGUMENT", text):
        await wire.call(EnqueueRequest(**{"queue_name": "q", **fields}))
    stats = await wire.call(spooled.GetQueueStatsRequest(queue_name="q"))
    assert stats.total == 0


async def test_zero_means_the_servers_default(wire: Wire) -> None:
    job_id = await wire.enqueue()
    job = (await wire.call(spooled.GetJobRequest(job_id=job_id))).job
    assert (job.max_retries, job.timeout_seconds, job.priority) == (3, 300, 0)


async def test_the_deepest_payload_reaches_a_worker_every_way(wire: Wire) -> None:
    async with wire.conversation("ProcessJobs") as conversation:
        await wire.enqueue(payload=nested(32))
        await conversation.write(
            spooled.ProcessRequest(dequeue=DequeueRequest(queue_name="q", worker_id="w"))
        )
        assert (await conversation.read()).job.payload == nested(32)


CLAIM: dict[str, Any] = {"queue_name": "q", "worker_id": "w"}
OTHERS: dict[str, tuple[Any, str]] = {
    "batch_size": (DequeueRequest(**CLAIM, batch_size=101), "batch_size must be 1 to 100, got 101"),
    "limit": (DequeueRequest(**CLAIM, limit=101), "batch_size must be 1 to 100, got 101"),
    "batch_size below": (
        DequeueRequest(**CLAIM, batch_size=-1),
        "batch_size must be 1 to 100, got -1",
    ),
    "lease short": (
        DequeueRequest(**CLAIM, lease_duration_secs=4),
        "lease_duration_secs must be 5 to 3600, got 4",
    ),
    "lease long": (DequeueRequest(**CLAIM, lease_duration_secs=3601), "5 to 3600"),
    "worker empty": (DequeueRequest(queue_name="q"), "worker_id"),
    "worker long": (DequeueRequest(queue_name="q", worker_id="w" * 129), "worker_id"),
    "worker characters": (DequeueRequest(queue_name="q", worker_id="a/b"), "worker_id"),
    "error empty": (FailRequest(job_id="j"), "error has 0 characters"),
    "error long": (FailRequest(job_id="j", error="x" * 2049), "error has 2049 characters"),
    "extension": (
        RenewLeaseRequest(job_id="j", extension_secs=3601),
        "extension_secs must be 5 to 3600, got 3601",
    ),
    "job_id": (RenewLeaseRequest(extension_secs=30), "job_id is empty"),
    "current_jobs": (HeartbeatRequest(worker_id="w", current_jobs=-1), "current_jobs"),
    "stats queue": (spooled.GetQueueStatsRequest(queue_name=".q"), "queue_name"),
    "result": (
        spooled.CompleteRequest(job_id="j", result=struct(a="x" * MIB)),
        "result is 1048584 bytes as JSON",
    ),
}


# Refused before any store is asked.
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", sorted(OTHERS))
async def test_other_requests_are_refused_by_name(wire: Wire, name: str) -> None:
    request, text = OTHERS[name]
    with answered("INVALID_ARGUMENT", text):
        await wire.call(request)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"worker_id": ""}, "worker_id"),
        ({"max_concurrency": -1}, "max_concurrency"),
        ({"hostname": "h" * 256}, "hostname"),
        ({"queue_name": "a b"}, "queue_name"),
        ({"metadata": {"a": "x" * 66_000}}, "metadata"),
    ],
)
async def test_a_registration_is_refused_by_name(
    wire: Wire, fields: dict[str, Any], text: str
) -> None:
    with answered("INVALID_ARGUMENT", text):
        await wire.call(RegisterWorkerRequest(**{"queue_name": "q", **fields}), "Register")


async def test_what_is_no_message_at_all_is_refused(wire: Wire) -> None:
    with answered("INVALID_ARGUMENT", "not a valid EnqueueRequest"):
        await wire.call(b"\xff\xff\xff", "Enqueue")
