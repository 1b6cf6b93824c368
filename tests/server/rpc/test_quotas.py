"""Quotas and rates over the wire: both RESOURCE_EXHAUSTED, told apart as the contract says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import grpc.aio
import pytest

from spooled_pipelines.server.auth import rate_limit
from spooled_pipelines.server.config.settings import OrganizationLimits
from spooled_pipelines.wire import spooled_v1 as spooled
from spooled_pipelines.wire.batch_v1 import EnqueueBatchRequest, JobChunk, OpenBatch
from tests.support.wire import OTHER_KEY, Wire, answered, struct


def rows(count: int, number: int) -> EnqueueBatchRequest:
    payloads = [struct(n=n).SerializeToString() for n in range(count)]
    keys = [f"{number}-{n}" for n in range(count)]
    return EnqueueBatchRequest(
        chunk=JobChunk(number=number, payloads=payloads, idempotency_keys=keys)
    )


async def test_a_quota_has_the_contracts_text_and_no_header(tmp_path: Path) -> None:
    async with Wire(tmp_path, daily_quota=1) as wire:
        await wire.enqueue()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await wire.enqueue()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "limit reached (1/1)" in (caught.value.details() or "")
        assert "retry-after" not in dict(caught.value.trailing_metadata() or ())
        # Jobs that are there are handed out and settled all the same.
        job = await wire.claim()
        await wire.call(spooled.CompleteRequest(job_id=job.id, lease_id=job.lease_id))


async def test_an_upload_is_told_what_was_stored_before_it_is_refused(
    tmp_path: Path, store_url: str
) -> None:
    async with Wire(tmp_path, store=store_url, daily_quota=10) as wire:
        async with wire.conversation("EnqueueBatch") as upload:
            opening = OpenBatch(batch_id="b", queue_name="q", upload_id="u")
            await upload.write(EnqueueBatchRequest(open=opening))
            assert (await upload.read()).opened.batch_id == "b"
            await upload.write(rows(8, 0))
            assert (await upload.read()).outcome.created == 8
            await upload.write(rows(3, 1))
            code, text = await upload.status()
        assert code == "RESOURCE_EXHAUSTED"
        assert "limit reached (8/10): of 3 new jobs none was stored" in text
        stats = await wire.call(spooled.GetQueueStatsRequest(queue_name="q"))
        assert stats.total == 8


async def test_messages_of_streams_wait_for_their_turn_at_the_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(rate_limit, "asyncio", SimpleNamespace(sleep=note))
    async with Wire(tmp_path, rate_limit=2) as wire, wire.conversation("ProcessJobs") as stream:
        for _ in range(6):
            beat = spooled.HeartbeatRequest(worker_id="w")
            await stream.write(spooled.ProcessRequest(heartbeat=beat))
            assert await stream.read() is not None
    # The call itself and three of its messages are a burst; the others come half a second apart.
    assert waits[:2] == [0.5, 1.0]


async def test_an_organization_may_have_limits_of_its_own(tmp_path: Path) -> None:
    own = {"other": OrganizationLimits(rate_limit=1, daily_quota=None)}
    async with Wire(tmp_path, daily_quota=1, organizations=own) as wire:
        await wire.enqueue()
        with answered("RESOURCE_EXHAUSTED", "limit reached (1/1)"):
            await wire.enqueue()
        # Bursts of twice the rate, and no quota.
        request = spooled.EnqueueRequest(queue_name="q")
        for _ in range(2):
            await wire.call(request, key=OTHER_KEY)
        with answered("RESOURCE_EXHAUSTED", "more than 1 requests a second"):
            await wire.call(request, key=OTHER_KEY)
        # And the others no rate.
        for _ in range(20):
            await wire.call(spooled.GetQueueStatsRequest(queue_name="q"))
