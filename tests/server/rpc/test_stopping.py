"""Stopping ends streams with UNAVAILABLE, keeps what was taken in, and lets go of everything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.wire import KEY, Wire, method_named


async def test_open_streams_end_with_unavailable(tmp_path: Path) -> None:
    # One that used it up would not end while the test waits.
    wire = Wire(tmp_path, grace_seconds=600.0)
    await wire.__aenter__()
    opening = batch.OpenBatch(batch_id="b", queue_name="q", upload_id="u")
    jobs = spooled.StreamJobsRequest(queue_name="q", worker_id="w")
    async with (
        wire.stream(jobs, "StreamJobs") as streaming,
        wire.conversation("ProcessJobs") as conversing,
        wire.conversation("EnqueueBatch") as uploading,
    ):
        await uploading.write(batch.EnqueueBatchRequest(open=opening))
        await uploading.read()
        async with wire.stream(batch.WatchBatchRequest(batch_ids=["b"]), "WatchBatch") as watching:
            await watching.read()
            subscription = spooled.SubscribeRequest(queue_name="q", worker_id="w2")
            await conversing.write(spooled.ProcessRequest(subscribe=subscription))
            beat = spooled.ProcessRequest(heartbeat=spooled.HeartbeatRequest(worker_id="w2"))
            await conversing.write(beat)
            await conversing.read()
            await wire.server.stop()
            for stream in (streaming, conversing, uploading, watching):
                while await stream.read() is not None:
                    pass
                code, details = await stream.status()
                assert (code, "stopping" in details) == ("UNAVAILABLE", True), details
    await wire.channel.close()


async def test_a_stream_in_the_middle_of_its_answers_ends_in_the_same_way(tmp_path: Path) -> None:
    request = spooled.StreamJobsRequest(queue_name="q", worker_id="w")
    for turns in range(6):
        wire = Wire(tmp_path / str(turns))
        await wire.__aenter__()
        for _ in range(12):
            await wire.enqueue()
        async with wire.stream(request, "StreamJobs") as stream:
            await stream.read()
            # A little later each time, so that writes and waits are met.
            for _ in range(turns):
                await asyncio.sleep(0)
            await wire.server.stop()
            while await stream.read() is not None:
                pass
            assert (await stream.status())[0] == "UNAVAILABLE"
        await wire.channel.close()


async def test_what_was_answered_is_there_for_the_next_server(tmp_path: Path) -> None:
    async with Wire(tmp_path) as first:
        job_id = await first.enqueue()
    async with Wire(tmp_path) as second:
        assert (await second.claim()).id == job_id


async def test_a_call_under_way_is_answered_first(tmp_path: Path) -> None:
    wire = Wire(tmp_path)
    await wire.__aenter__()
    request = spooled.EnqueueRequest(queue_name="q")
    calls = [wire.open(method_named("Enqueue"), request, key=KEY) for _ in range(20)]
    first = await calls[0]
    await wire.server.stop()
    codes = [(await call.code()).name for call in calls]
    assert first.created
    assert set(codes) <= {"OK", "UNAVAILABLE"}
    await wire.channel.close()
    async with Wire(tmp_path) as again:
        stats = await again.call(spooled.GetQueueStatsRequest(queue_name="q"))
        assert stats.total >= codes.count("OK")


async def test_starting_on_a_port_in_use_says_so_and_lets_go_of_the_file(tmp_path: Path) -> None:
    async with Wire(tmp_path) as first:
        other = Wire(tmp_path / "other", listen=first.address)
        with pytest.raises(OSError, match=first.address):
            await other.server.start()
    async with Wire(tmp_path / "other") as free:
        await free.enqueue()
