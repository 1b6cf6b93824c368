"""No RPC without a key, and nothing of one organization for another; found by reflection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from spooled_pipelines.server.config.settings import OrganizationKey, ServerSettings
from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import spooled_v1 as spooled
from spooled_pipelines.wire.methods import Method
from tests.support.wire import KEY, METHODS, OTHER_KEY, Wire, answered

BAD = {
    "none": (),
    "wrong": (("x-api-key", "sp_test_wrong"),),
    "empty": (("x-api-key", ""),),
    "longer": (("x-api-key", KEY + "x"),),
    "wrong bearer": (("authorization", "Bearer sp_test_wrong"),),
    "not a bearer": (("authorization", f"Basic {KEY}"),),
    "no scheme": (("authorization", KEY),),
}


async def nothing() -> AsyncIterator[bytes]:
    for message in ():
        yield message


async def outcome(wire: Wire, method: Method, metadata: tuple[tuple[str, str], ...]) -> Any:
    request = nothing() if method.client_streaming else method.request_class()
    call = wire.open(method, request, metadata=metadata)
    return await call.code(), await call.details()


@pytest.mark.parametrize("name", sorted(BAD))
async def test_no_rpc_without_a_key_that_is_known(wire: Wire, name: str) -> None:
    for method in METHODS:
        code, details = await outcome(wire, method, BAD[name])
        assert code is grpc.StatusCode.UNAUTHENTICATED, method.path
        assert "API key" in details
        assert "sp_test" not in details


@pytest.mark.parametrize("header", [("x-api-key", KEY), ("authorization", f"Bearer {KEY}")])
async def test_every_rpc_with_a_key_either_way(wire: Wire, header: tuple[str, str]) -> None:
    for method in METHODS:
        code, _ = await outcome(wire, method, (header,))
        assert code is not grpc.StatusCode.UNAUTHENTICATED, method.path
        assert code is not grpc.StatusCode.UNIMPLEMENTED, method.path


async def test_a_plain_server_does_not_know_batches(tmp_path: Path) -> None:
    async with Wire(tmp_path, batch_extension=False) as wire:
        for method in METHODS:
            code, _ = await outcome(wire, method, (("x-api-key", KEY),))
            unknown = code is grpc.StatusCode.UNIMPLEMENTED
            assert unknown == method.service.startswith("spooled_pipelines."), method.path


async def test_a_job_of_another_organization_is_not_there(wire: Wire) -> None:
    await wire.enqueue(idempotency_key="k")
    job = await wire.claim()
    for request in (
        spooled.GetJobRequest(job_id=job.id),
        batch.ListAttemptsRequest(job_id=job.id),
        spooled.CompleteRequest(job_id=job.id, worker_id="w", lease_id=job.lease_id),
        spooled.FailRequest(job_id=job.id, worker_id="w", lease_id=job.lease_id, error="x"),
        spooled.RenewLeaseRequest(job_id=job.id, worker_id="w", lease_id=job.lease_id),
    ):
        with answered("NOT_FOUND", "no job"):
            await wire.call(request, key=OTHER_KEY)
    theirs = await wire.call(
        spooled.EnqueueRequest(queue_name="q", idempotency_key="k"), key=OTHER_KEY
    )
    assert theirs.created
    stats = await wire.call(spooled.GetQueueStatsRequest(queue_name="q"), key=OTHER_KEY)
    assert (stats.total, stats.pending) == (1, 1)
    mine = await wire.call(spooled.GetQueueStatsRequest(queue_name="q"))
    assert (mine.total, mine.processing) == (1, 1)


async def test_a_batch_of_another_organization_is_not_there(wire: Wire) -> None:
    async with wire.conversation("EnqueueBatch") as upload:
        opening = batch.OpenBatch(batch_id="b", queue_name="q", upload_id="u")
        await upload.write(batch.EnqueueBatchRequest(open=opening))
        assert (await upload.read()).opened.batch_id == "b"
    for request in (
        batch.SealBatchRequest(batch_id="b"),
        batch.GetBatchStatsRequest(batch_ids=["b"]),
        batch.CancelBatchRequest(batch_id="b"),
        batch.RetryBatchRequest(batch_id="b"),
    ):
        with answered("NOT_FOUND", "no batch"):
            await wire.call(request, key=OTHER_KEY)
    for name, watched in (
        ("WatchBatch", batch.WatchBatchRequest(batch_ids=["b"])),
        ("ListBatchJobs", batch.ListBatchJobsRequest(batch_id="b")),
    ):
        async with wire.stream(watched, name, key=OTHER_KEY) as stream:
            assert (await stream.status())[0] == "NOT_FOUND"


async def test_a_stream_of_another_organization_gets_none_of_my_jobs(wire: Wire) -> None:
    request = spooled.StreamJobsRequest(queue_name="q", worker_id="w")
    async with (
        wire.stream(request, "StreamJobs", key=OTHER_KEY) as theirs,
        wire.stream(request, "StreamJobs") as mine,
    ):
        job_id = await wire.enqueue()
        assert (await mine.read()).id == job_id
        response = await wire.call(spooled.EnqueueRequest(queue_name="q"), key=OTHER_KEY)
        job = await theirs.read()
        assert (job.id, job.organization_id) == (response.job_id, "other")


async def test_a_worker_id_of_another_organization_is_as_if_it_were_not_there(wire: Wire) -> None:
    request = spooled.RegisterWorkerRequest(queue_name="q", worker_id="w")
    await wire.call(request, "Register")
    with answered("NOT_FOUND", "no worker"):
        await wire.call(spooled.HeartbeatRequest(worker_id="w"), key=OTHER_KEY)
    response = await wire.call(spooled.DeregisterRequest(worker_id="w"), key=OTHER_KEY)
    assert not response.success
    await wire.call(request, "Register", key=OTHER_KEY)
    await wire.call(spooled.DeregisterRequest(worker_id="w"), key=OTHER_KEY)
    await wire.call(spooled.HeartbeatRequest(worker_id="w"))


def test_settings_never_show_a_key() -> None:
    settings = ServerSettings(api_keys=(KEY, OrganizationKey("other", OTHER_KEY)))
    assert KEY not in repr(settings)
    assert OTHER_KEY not in repr(settings)
    assert KEY.encode() not in repr(vars(settings)).encode()


@pytest.mark.parametrize("keys", [("",), ("ключ",), ("a\nb",), (OrganizationKey("", "k"),)])
def test_keys_that_could_let_nobody_in_are_refused(keys: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="key"):
        ServerSettings(api_keys=keys)
