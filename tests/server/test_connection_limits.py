"""What one connection may ask of the server, over real connections: each bound, and just below."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from spooled_pipelines import AsyncSpooledClient
from spooled_pipelines.server.config.settings import ConnectionLimits, ServerSettings
from spooled_pipelines.server.rpc import connections, peer_sockets
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.proof.http2_peer import Peer
from tests.support.server_process import ServerProcess
from tests.support.waiting import aeventually, eventually
from tests.support.wire import KEY, Wire, answered, method_named, struct

MIB = 1 << 20


async def test_a_message_that_is_too_large_is_refused_by_its_size(tmp_path: Path) -> None:
    bounds = ConnectionLimits(max_message_bytes=4 * MIB)
    async with Wire(tmp_path, connections=bounds) as wire:
        with answered("RESOURCE_EXHAUSTED", "larger than max"):
            await wire.call(b"x" * (4 * MIB + 1), "Enqueue")
        # It reaches the service, which knows what is wrong with it.
        with answered("INVALID_ARGUMENT"):
            await wire.call(b"x" * 4 * MIB, "Enqueue")
        await wire.enqueue(payload=struct(a="x" * (MIB - 8)))


def test_a_call_is_two_mib_ahead_of_its_reader_at_most(server: ServerProcess) -> None:
    """It bounds what half a message holds, and how much of an upload a long line carries."""
    with Peer(server.address) as peer:

        def was_told() -> bool:
            peer.run(0.05)
            return peer.stream_room == 2 * MIB

        eventually(was_told)


async def test_metadata_that_is_too_large_is_refused(tmp_path: Path) -> None:
    bounds = ConnectionLimits(max_metadata_bytes=4096)
    async with Wire(tmp_path, connections=bounds) as wire:
        method, request = method_named("Enqueue"), spooled.EnqueueRequest(queue_name="q")

        async def enqueue(size: int) -> None:
            metadata = (("x-api-key", KEY), ("x-more", "m" * size))
            await wire.open(method, request, metadata=metadata)

        for _ in range(20):
            await enqueue(3000)
        for _ in range(20):
            with answered("RESOURCE_EXHAUSTED", "metadata size"):
                await enqueue(4096)
        # The connection goes on.
        await wire.enqueue()


async def ask_until_taken(wire: Wire) -> spooled.GetQueueStatsResponse:
    try:
        return await wire.call(spooled.GetQueueStatsRequest(queue_name="q"))
    except grpc.aio.AioRpcError as error:
        # The server may count a stream for a moment longer than its client does.
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
    return await ask_until_taken(wire)


async def test_streams_beyond_the_bound_wait_for_one_to_end(tmp_path: Path) -> None:
    bounds = ConnectionLimits(max_streams=3)
    async with Wire(tmp_path, connections=bounds) as wire:
        request = spooled.StreamJobsRequest(queue_name="q", worker_id="w")
        # What the connection may hold is known once it is open.
        await wire.enqueue("other")
        streams = [wire.open(method_named("StreamJobs"), request) for _ in range(3)]
        readers = [asyncio.ensure_future(stream.read()) for stream in streams]
        await aeventually(lambda: len(wire.server._interceptor._streams) == 3)
        waiting = asyncio.ensure_future(ask_until_taken(wire))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        streams[0].cancel()
        assert (await asyncio.wait_for(waiting, 60)).total == 0
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def test_a_client_of_ours_has_room_for_hundreds_of_streams(tmp_path: Path) -> None:
    async with (
        Wire(tmp_path) as wire,
        AsyncSpooledClient(wire.address, api_key=KEY) as client,
        contextlib.AsyncExitStack() as stack,
    ):
        first = []
        for number in range(300):
            jobs = client.stream_jobs(f"q{number}", "w")
            stack.push_async_callback(jobs.aclose)
            first.append(asyncio.ensure_future(anext(aiter(jobs))))
        await aeventually(lambda: len(wire.server._interceptor._streams) == 300)
        await client.enqueue("q299", {"n": 1})
        assert (await asyncio.wait_for(first[299], 60)).queue_name == "q299"
        for task in first[:299]:
            task.cancel()
        await asyncio.gather(*first, return_exceptions=True)


async def test_calls_that_are_refused_for_their_number_are_repeated_and_done_once(
    tmp_path: Path,
) -> None:
    """A connection learns of the bound only after its first calls are on their way."""
    bounds = ConnectionLimits(max_streams=100)
    async with (
        Wire(tmp_path, connections=bounds) as wire,
        AsyncSpooledClient(wire.address, api_key=KEY) as client,
    ):
        # Without a key: whatever might have been done would not be repeated.
        made = await asyncio.gather(*(client.enqueue("q", {"n": n}) for n in range(300)))
        assert all(outcome.created for outcome in made)
        assert (await client.queue_stats("q")).total == 300


@pytest.mark.skipif(not peer_sockets.CAN_LOOK, reason="nothing is cut where /proc is missing")
@pytest.mark.parametrize("way", ["reset", "without a message", "by no name"])
async def test_calls_that_are_given_up_again_and_again_cost_their_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(connections, "_GIVEN_UP_BURST", 20)
    path = method_named("Enqueue").path + ("s" if way == "by no name" else "")

    def give_up(peer: Peer, count: int) -> None:
        for _ in range(count):
            stream = peer.call(path, key=KEY, end=False)
            peer.run(0.02)
            if way == "reset":
                peer.reset(stream)
            else:
                peer.end(stream)
        peer.run(0.5)

    async with Wire(tmp_path) as wire:
        with Peer(wire.address) as peer, Peer(wire.address) as other:
            await asyncio.to_thread(give_up, other, 10)
            assert not other.is_closed
            while not peer.is_closed:
                await asyncio.to_thread(give_up, peer, 20)
            # Others with the same key go on.
            await asyncio.to_thread(other.run, 1.2)
            assert not other.is_closed
        await wire.enqueue("q")


async def test_an_idle_connection_is_closed_and_opened_again_by_the_next_call(
    tmp_path: Path,
) -> None:
    bounds = ConnectionLimits(max_idle_seconds=1)
    async with Wire(tmp_path, connections=bounds) as wire:
        await wire.enqueue()
        # While a stream is open, nothing is idle.
        request = spooled.StreamJobsRequest(queue_name="later", worker_id="w")
        async with wire.stream(request, "StreamJobs") as stream:
            read = asyncio.ensure_future(stream.read())
            done, _ = await asyncio.wait([read], timeout=2.5)
            assert not done
            await wire.enqueue("later")
            assert await read
        ready = grpc.ChannelConnectivity.READY
        assert wire.channel.get_state() is ready
        await aeventually(lambda: wire.channel.get_state() is not ready)
        await wire.enqueue()


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"spooled!"
GOAWAY_TYPE, ENHANCE_YOUR_CALM = 7, 11


async def said_until_closed(reader: asyncio.StreamReader) -> tuple[int, bytes] | None:
    """The error code and text of the GOAWAY with which the server ends the connection."""
    said = None
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == GOAWAY_TYPE:
                said = int.from_bytes(payload[4:8], "big"), payload[8:]
    return said


async def test_a_client_that_pings_too_often_is_cut_off(tmp_path: Path) -> None:
    async with Wire(tmp_path) as wire:
        host, _, port = wire.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(PREFACE + PING * 10)
        said = await asyncio.wait_for(said_until_closed(reader), 60)
        writer.close()
        assert said == (ENHANCE_YOUR_CALM, b"too_many_pings")


async def test_a_peer_that_answers_no_pings_is_let_go(tmp_path: Path) -> None:
    """As a machine whose power is gone; its streams end, and their claims go back."""
    bounds = ConnectionLimits(keepalive_seconds=1)
    async with Wire(tmp_path, connections=bounds) as wire:
        host, _, port = wire.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(PREFACE)
        # It reads, and answers nothing.
        await asyncio.wait_for(said_until_closed(reader), 15)
        writer.close()


async def test_an_old_connection_is_replaced_and_its_client_goes_on(tmp_path: Path) -> None:
    bounds = ConnectionLimits(max_age_seconds=1)
    async with Wire(tmp_path, connections=bounds) as wire:
        await wire.enqueue()
        ready = grpc.ChannelConnectivity.READY
        await aeventually(lambda: wire.channel.get_state() is not ready)
        # The next call is on a new connection, and sees nothing of it.
        await wire.enqueue()
        assert wire.channel.get_state() is ready


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_message_bytes", 1000),
        ("max_message_bytes", 2**31),
        ("max_streams", 0),
        ("max_metadata_bytes", 0),
        ("max_idle_seconds", 0.5),
        ("keepalive_seconds", 0),
        ("min_ping_seconds", -1),
        ("max_age_seconds", 0),
        ("max_idle_seconds", float("nan")),
    ],
)
def test_bounds_that_make_no_sense_are_refused_by_name(name: str, value: float) -> None:
    limits: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=name):
        ServerSettings(connections=ConnectionLimits(**limits))
