"""Clients that leave their answers unread: what they still get done, and what is kept for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines.server.core.limits.in_flight import ByteBudget
from spooled_pipelines.server.core.protobuf import field
from spooled_pipelines.server.rpc import (
    connections,
    interceptor,
    peer_sockets,
    unread_bytes,
)
from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import keys_v1 as keys
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.proof.http2_peer import Peer, message
from tests.support.waiting import aeventually
from tests.support.wire import Wire, method_named, struct

MIB = 1 << 20
# Too little for an answer: whatever the server writes waits.
SHUT = 1


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    async with Wire(tmp_path) as running:
        yield running


async def run(peer: Peer, seconds: float = 0.2) -> None:
    await asyncio.to_thread(peer.run, seconds)


def chunk(number: int, size: int = 0) -> bytes:
    ids = [f"{number}-{row}" for row in range(10)]
    large = field(1, field(1, b"a") + field(2, field(3, b"x" * size))) if size else b""
    rows = batch.JobChunk(payloads=[large] * 10, idempotency_keys=ids, number=number)
    return message(batch.EnqueueBatchRequest(chunk=rows).SerializeToString())


async def test_a_revoked_key_gets_nothing_more_done_on_a_stream_that_is_not_read(
    wire: Wire,
) -> None:
    made = await wire.call(keys.CreateKeyRequest(name="n", role="admin"))
    await wire.enqueue("q")

    async def processing() -> int:
        return int((await wire.call(spooled.GetQueueStatsRequest(queue_name="q"))).processing)

    opening = batch.OpenBatch(batch_id="b", queue_name="other", upload_id="u")
    opened = message(batch.EnqueueBatchRequest(open=opening).SerializeToString())
    empty = message(spooled.ProcessRequest().SerializeToString())
    with Peer(wire.address, window=SHUT) as peer:
        upload = peer.call(
            method_named("EnqueueBatch").path, opened + chunk(0), key=made.secret, end=False
        )
        worker = peer.call(method_named("ProcessJobs").path, empty, key=made.secret, end=False)
        streams = wire.server._interceptor._streams
        while len(streams) < 2 or any(stream.writing_since is None for stream in streams):
            await run(peer)
        await wire.call(keys.RevokeKeyRequest(id=made.key.id))
        await aeventually(lambda: not streams)
        dequeue = spooled.DequeueRequest(queue_name="q", worker_id="w")
        peer.send(upload, chunk(1))
        peer.send(worker, message(spooled.ProcessRequest(dequeue=dequeue).SerializeToString()))
        await run(peer, 0.5)
        assert await processing() == 0
        stats = await wire.call(batch.GetBatchStatsRequest(batch_ids=["b"]))
        assert stats.batches[0].total <= 10


async def test_an_answer_that_stays_unread_ends_its_stream(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interceptor, "_UNREAD_SECONDS", 0.3)
    opening = batch.OpenBatch(batch_id="b", queue_name="q", upload_id="u")
    opened = message(batch.EnqueueBatchRequest(open=opening).SerializeToString())
    with Peer(wire.address, window=SHUT) as peer:
        peer.call(method_named("EnqueueBatch").path, opened, key="sp_wrong", end=False)
        peer.call(method_named("EnqueueBatch").path, opened, key=await new_key(wire), end=False)
        streams = wire.server._interceptor._streams
        while not any(stream.writing_since is not None for stream in streams):
            await run(peer)
        await aeventually(lambda: not streams)


@pytest.mark.parametrize("name", ["Dequeue", "StreamJobs", "ProcessJobs", "GetJob"])
async def test_no_more_answers_are_made_than_have_room_to_wait_for_their_reader(
    wire: Wire, name: str
) -> None:
    unread = wire.server._interceptor._unread
    unread._most = MIB
    key = await new_key(wire, "admin", "evil")
    payload = struct(a="x" * (MIB // 3))
    jobs = [await wire.enqueue(f"q{n}", key=key, payload=payload) for n in range(6)]

    def request(n: int) -> Any:
        if name == "GetJob":
            return spooled.GetJobRequest(job_id=jobs[n])
        if name == "StreamJobs":
            return spooled.StreamJobsRequest(queue_name=f"q{n}", worker_id="w")
        take = spooled.DequeueRequest(queue_name=f"q{n}", worker_id="w")
        return take if name == "Dequeue" else spooled.ProcessRequest(dequeue=take)

    async def claimed() -> int:
        stats = [spooled.GetQueueStatsRequest(queue_name=f"q{n}") for n in range(6)]
        return sum([(await wire.call(each, key=key)).processing for each in stats])

    with Peer(wire.address, window=SHUT) as peer:
        for n in range(6):
            body = message(request(n).SerializeToString())
            peer.call(method_named(name).path, body, key=key, end=name != "ProcessJobs")
        # Until it is made an answer counts as what it might become: the first passes alone.
        while len(unread._waiting.get("evil", ())) < 5 or unread._used["evil"] > MIB // 2:
            await run(peer)
        await run(peer)
        assert await claimed() == (name != "GetJob")
        assert unread._used["evil"] >= MIB // 3
    # Another organization is not kept waiting, and with the connection this one has room again.
    await wire.enqueue("q")
    await wire.claim("q")
    for each in jobs:
        got = await wire.call(spooled.GetJobRequest(job_id=each), key=key)
        assert got.job.id == each


async def new_key(wire: Wire, role: str = "produce", organization: str = "") -> str:
    made = await wire.call(keys.CreateKeyRequest(organization=organization, name="n", role=role))
    return str(made.secret)


@pytest.mark.skipif(not peer_sockets.CAN_LOOK, reason="nothing is cut where /proc is missing")
@pytest.mark.parametrize("name", ["EnqueueBatch", "Settle", "ProcessJobs", "Enqueue"])
async def test_too_many_half_messages_of_one_organization_cost_it_its_connections(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # More than comes of one call before it is read: 2 MiB, and the message that is being read.
    monkeypatch.setattr(unread_bytes, "HELD_MAX_BYTES", 8 * MIB)
    monkeypatch.setattr(unread_bytes, "_resident", lambda: 1 << 40)
    role = "produce" if name.startswith("Enqueue") else "work"
    good, evil = await new_key(wire), await new_key(wire, role, "evil")
    opening = batch.OpenBatch(batch_id="b", queue_name="q", upload_id="u")
    opened = message(batch.EnqueueBatchRequest(open=opening).SerializeToString())
    with Peer(wire.address) as other, Peer(wire.address) as peer:
        # As much as the other does not finish is taken in where it is read.
        body = opened + b"".join(chunk(number, MIB // 10) for number in range(16))
        upload = other.call(method_named("EnqueueBatch").path, body, key=good, end=False)
        while not other.has_sent_all:
            assert not other.is_closed
            await run(other)
        for _ in range(8):
            half = message(bytes(3 * MIB))[:-1000]
            peer.call(method_named(name).path, half, key=evil, end=False)
        while not peer.is_closed:
            await run(peer)
        await run(other, 1.5)
        assert not other.is_closed
        assert upload not in other.ended, bytes(other.said)


@pytest.mark.skipif(not peer_sockets.CAN_LOOK, reason="nothing is cut where /proc is missing")
async def test_a_call_that_was_refused_unread_holds_nothing(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread_bytes, "HELD_MAX_BYTES", MIB)
    monkeypatch.setattr(unread_bytes, "_resident", lambda: 0)
    with Peer(wire.address) as peer:
        for _ in range(8):
            peer.call(
                method_named("Enqueue").path,
                message(bytes(MIB // 2)),
                key=await new_key(wire, "work"),
            )
        while len(peer.ended) < 8:
            await run(peer)
        await run(peer, 1.5)
        assert not peer.is_closed


async def test_bytes_in_flight_wait_for_room_in_their_order() -> None:
    budget = ByteBudget(10)
    first = await budget.take("a", 8)
    second = asyncio.ensure_future(budget.take("a", 5))
    third = asyncio.ensure_future(budget.take("a", 1))
    given_up = asyncio.ensure_future(budget.take("a", 1))
    # Another organization has room of its own, and what is larger than all room passes alone.
    (await budget.take("b", 99)).release()
    await asyncio.sleep(0)
    assert not second.done()
    assert not third.done()
    given_up.cancel()
    first.release()
    first.release()
    share = await second
    await third
    share.resize(1)
    async with AsyncExitStack() as stack:
        for _ in range(2):
            stack.callback((await budget.take("a", 4)).release)
    assert not (await budget.take("a", 0)).counts


@pytest.mark.parametrize("waiting", [1, 2])
async def test_one_that_is_given_up_just_when_there_is_room_keeps_nobody_waiting(
    waiting: int,
) -> None:
    budget = ByteBudget(10)
    first = await budget.take("a", 8)
    others = [asyncio.ensure_future(budget.take("a", 5)) for _ in range(waiting)]
    await asyncio.sleep(0)
    others[0].cancel()
    first.release()
    with pytest.raises(asyncio.CancelledError):
        await others[0]
    for other in others[1:]:
        (await other).release()
    (await budget.take("a", 10)).release()


async def test_a_server_runs_where_the_kernel_does_not_tell_what_arrived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (connections, unread_bytes):
        monkeypatch.setattr(module, "CAN_LOOK", False)
    monkeypatch.setattr(unread_bytes, "_MEMORY", tmp_path / "not there")
    async with Wire(tmp_path) as running:
        job_id = await running.enqueue("q")
        assert (await running.claim("q")).id == job_id


async def test_bytes_come_back_from_whichever_thread_collects_the_last_that_held_them() -> None:
    """As in a cycle of a message and its error."""
    # So that a call of the loop from another thread is an error, and wakes nobody.
    asyncio.get_running_loop().set_debug(True)
    budget = ByteBudget(10)
    held = [await budget.take("a", 8)]
    waiting = asyncio.ensure_future(budget.take("a", 5))
    await asyncio.sleep(0)
    await asyncio.to_thread(held.clear)
    assert (await asyncio.wait_for(waiting, 30)).counts
