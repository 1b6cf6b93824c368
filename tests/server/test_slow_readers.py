"""Clients that open streams and do not read: each holds back its own stream, and nothing else."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc.aio
import psutil
import pyarrow as pa
import pytest

from spooled_pipelines import AsyncSpooledClient
from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.server_process import ServerProcess
from tests.support.waiting import aeventually
from tests.support.wire import method_named

MIB = 1 << 20
ROWS, PAYLOAD_BYTES = 700, 20_000
STREAMS = 30
# Of what a stream sends, at most this much may wait in the server, with what it takes to send it.
STREAM_MIB = 2


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[ServerProcess]:
    with ServerProcess(tmp_path / "unused.db", "--store", store_url) as running:
        yield running


class SlowReaders:
    """Opens streams, each over a connection of its own or all over one, and reads none of them."""

    def __init__(self, server: ServerProcess, stack: AsyncExitStack) -> None:
        self._server = server
        self._stack = stack

    async def channel(self) -> grpc.aio.Channel:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.aio.insecure_channel(self._server.address, options)
        return await self._stack.enter_async_context(channel)

    def open(self, channel: grpc.aio.Channel, request: Any, name: str) -> Any:
        stream = channel.unary_stream(method_named(name).path)
        metadata = (("x-api-key", self._server.api_key),)
        call = stream(request.SerializeToString(), metadata=metadata)
        self._stack.callback(call.cancel)
        return call


def is_at_rest(process: psutil.Process) -> Callable[[], bool]:
    """Whether the process has had nothing to do for a while."""
    worked, since = process.cpu_times(), time.monotonic()

    def check() -> bool:
        nonlocal worked, since
        now = process.cpu_times()
        if now.user + now.system - worked.user - worked.system > 0.02:
            worked, since = now, time.monotonic()
        return time.monotonic() - since > 0.5

    return check


@pytest.mark.parametrize("connections", ["one each", "one for all"])
async def test_those_who_do_not_read_cost_the_server_next_to_nothing(
    server: ServerProcess, queue: str, connections: str
) -> None:
    table = pa.table({"n": range(ROWS), "text": ["x" * PAYLOAD_BYTES] * ROWS})
    process = psutil.Process(server.pid)
    async with (
        AsyncSpooledClient(server.address, api_key=server.api_key) as client,
        AsyncExitStack() as stack,
    ):
        made = await client.enqueue_batch(table, queue)
        # What the server needs anyway: to be asked for everything once.
        assert await read_all(client, server, made.id) == ROWS
        # Of the batch that will be watched.
        jobs = await client.dequeue(queue, "worker", batch_size=20, lease_seconds=300)
        assert len(jobs) == 20
        before = process.memory_info().rss
        readers = SlowReaders(server, stack)
        channel = await readers.channel()
        for number in range(STREAMS):
            if connections == "one each":
                channel = await readers.channel()
            listing = batch.ListBatchJobsRequest(batch_id=made.id)
            readers.open(channel, listing, "ListBatchJobs")
            taking = spooled.StreamJobsRequest(queue_name=queue, worker_id=f"w{number}")
            readers.open(channel, taking, "StreamJobs")
            readers.open(channel, batch.WatchBatchRequest(batch_ids=[made.id]), "WatchBatch")
        await aeventually(is_at_rest(process), timeout=60)
        # Others go on, over connections of their own and over theirs.
        assert await read_all(client, server, made.id) == ROWS
        for job in jobs:
            await client.enqueue("other", {})
            await client.complete(job)
        ask = channel.unary_unary(method_named("GetQueueStats").path)
        request = spooled.GetQueueStatsRequest(queue_name=queue).SerializeToString()
        await ask(request, metadata=(("x-api-key", server.api_key),), timeout=10)
        grown = (process.memory_info().rss - before) / MIB
        assert grown < STREAMS * STREAM_MIB, f"{grown:.0f} MiB"
    await aeventually(is_at_rest(process), timeout=60)
    assert server.complaints() == []


async def read_all(client: AsyncSpooledClient, server: ServerProcess, batch_id: str) -> int:
    request = batch.ListBatchJobsRequest(batch_id=batch_id)
    async with grpc.aio.insecure_channel(server.address) as channel:
        stream = channel.unary_stream(
            method_named("ListBatchJobs").path,
            response_deserializer=batch.ListBatchJobsResponse.FromString,
        )
        call = stream(request.SerializeToString(), metadata=(("x-api-key", server.api_key),))
        return sum([len(page.jobs) async for page in call])


async def test_a_reader_that_begins_to_read_gets_all_of_it(
    server: ServerProcess, queue: str
) -> None:
    table = pa.table({"n": range(ROWS), "text": ["x" * PAYLOAD_BYTES] * ROWS})
    async with (
        AsyncSpooledClient(server.address, api_key=server.api_key) as client,
        AsyncExitStack() as stack,
    ):
        made = await client.enqueue_batch(table, queue)
        readers = SlowReaders(server, stack)
        request = batch.ListBatchJobsRequest(batch_id=made.id)
        late = readers.open(await readers.channel(), request, "ListBatchJobs")
        await aeventually(is_at_rest(psutil.Process(server.pid)), timeout=60)
        found = 0
        async for page in late:
            found += len(batch.ListBatchJobsResponse.FromString(page).jobs)
        assert found == ROWS
