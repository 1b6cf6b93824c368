"""Keys made, listed and revoked while the server runs; the streams of a key end with it."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from spooled_pipelines.server.auth import new_key
from spooled_pipelines.server.config.settings import NoKeysError, ServerSettings
from spooled_pipelines.server.server import Server
from spooled_pipelines.server.services.encoding import timestamp
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import keys_v1 as keys
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.store_kit import refused
from tests.support.wire import KEY, OTHER_KEY, Stream, Wire, answered, method_named


async def make(wire: Wire, role: str = "admin", **fields: Any) -> keys.CreateKeyResponse:
    return await wire.call(keys.CreateKeyRequest(name="a key", role=role, **fields))


async def open_streams(wire: Wire, key: str, queue: str = "q") -> list[Stream]:
    """A stream of each kind, all of them waiting for something to happen."""
    opening = batch.OpenBatch(batch_id=f"of-{queue}", queue_name=queue, upload_id="u")
    upload = Stream(wire.open(method_named("EnqueueBatch"), None, key=key))
    await upload.write(batch.EnqueueBatchRequest(open=opening))
    assert await upload.read() is not None
    watch = batch.WatchBatchRequest(batch_ids=[opening.batch_id])
    watching = Stream(wire.open(method_named("WatchBatch"), watch, key=key))
    assert await watching.read() is not None
    conversation = Stream(wire.open(method_named("ProcessJobs"), None, key=key))
    beat = spooled.HeartbeatRequest(worker_id="w")
    await conversation.write(spooled.ProcessRequest(heartbeat=beat))
    assert await conversation.read() is not None
    take = spooled.StreamJobsRequest(queue_name=queue, worker_id="w")
    taking = Stream(wire.open(method_named("StreamJobs"), take, key=key))
    await wire.enqueue(queue)
    assert await taking.read() is not None
    return [upload, watching, conversation, taking]


async def test_a_key_is_shown_once_and_kept_as_its_hash(wire: Wire) -> None:
    made = await make(wire, "produce", queues=["a", "b", "a"])
    assert made.secret.startswith("sp_live_")
    assert len(made.secret) > 40
    listed = await wire.call(keys.ListKeysRequest())
    (key,) = listed.keys
    assert (key.name, key.role, list(key.queues)) == ("a key", "produce", ["a", "b"])
    assert key.organization == "default"
    assert not key.HasField("expires_at")
    assert made.secret not in str(listed)
    (record,) = await wire.store.keys()
    assert record.digest == hashlib.sha256(made.secret.encode()).digest()
    assert made.secret not in repr(record)
    assert repr(record.digest) not in repr(record)


async def test_several_keys_live_at_once_so_that_they_can_be_rotated(wire: Wire) -> None:
    old, new = await make(wire), await make(wire)
    request = spooled.GetQueueStatsRequest(queue_name="q")
    for made in (old, new):
        await wire.call(request, key=made.secret)
    await wire.call(keys.RevokeKeyRequest(id=old.key.id), key=new.secret)
    with answered("UNAUTHENTICATED", "was revoked"):
        await wire.call(request, key=old.secret)
    await wire.call(request, key=new.secret)
    # Once more changes nothing, not even when it was.
    first = await wire.call(keys.RevokeKeyRequest(id=old.key.id))
    assert first.key.HasField("revoked_at")
    wire.clock.advance(5)
    assert await wire.call(keys.RevokeKeyRequest(id=old.key.id)) == first


async def test_streams_end_with_the_key_that_opened_them(wire: Wire) -> None:
    made, other = await make(wire), await make(wire)
    mine = await open_streams(wire, made.secret)
    theirs = await open_streams(wire, other.secret, "another")
    await wire.call(keys.RevokeKeyRequest(id=made.key.id))
    for stream in mine:
        code, details = await stream.status()
        assert (code, details) == ("UNAUTHENTICATED", "the API key was revoked")
    for stream in theirs:
        assert not stream.call.done()
        stream.call.cancel()


async def test_streams_end_when_their_key_expires(wire: Wire) -> None:
    end = timestamp(wire.clock.now() + 60_000)
    made = await make(wire, expires_at=end)
    streams = await open_streams(wire, made.secret)
    wire.clock.advance(59.9)
    await wire.call(spooled.GetQueueStatsRequest(queue_name="q"), key=made.secret)
    wire.clock.advance(0.1)
    for stream in streams:
        assert await stream.status() == ("UNAUTHENTICATED", "the API key has expired")
    with answered("UNAUTHENTICATED", "has expired"):
        await wire.call(spooled.GetQueueStatsRequest(queue_name="q"), key=made.secret)


async def test_keys_outlive_the_server(store_url: str) -> None:
    settings = ServerSettings(listen="127.0.0.1:0", store=store_url, api_keys=(KEY,))
    store = open_store(store_url, Server(settings)._clock)
    await store.open(lambda _: None)
    record, secret = new_key("acme", "n", "read", ["q"], None, 1)
    await store.add_key(record)
    assert await store.keys() == [record]
    await store.close()
    server = Server(ServerSettings(listen="127.0.0.1:0", store=store_url))
    await server.start()
    caller = server._keys.authenticate((("x-api-key", secret),), "")
    assert (caller.organization, caller.queues) == ("acme", frozenset({"q"}))
    with refused("NOT_FOUND", "no key"):
        await server.store.revoke_key("default", record.key_id)
    await server.store.revoke_key("acme", record.key_id)
    await server.stop()
    with pytest.raises(NoKeysError, match="keys create"):
        await Server(ServerSettings(listen="127.0.0.1:0", store=store_url)).start()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"role": "root"}, "role 'root' is none of produce, work, read, admin"),
        ({"queues": ["no spaces"]}, "queue_name"),
        ({"name": ""}, "name has 0 characters"),
        ({"name": "n" * 101}, "name has 101 characters"),
        ({"organization": "a\nb"}, "organization"),
        ({"expires_at": timestamp(1)}, "expires_at must be in the future"),
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(
    wire: Wire, fields: dict[str, Any], text: str
) -> None:
    with answered("INVALID_ARGUMENT", text):
        given: dict[str, Any] = {"name": "n", "role": "read", **fields}
        await wire.call(keys.CreateKeyRequest(**given))


@pytest.mark.parametrize("key_id", ["", "nonsense", "a\0b", "key_0123456789abcdef"])
async def test_a_key_that_is_not_there_cannot_be_revoked(wire: Wire, key_id: str) -> None:
    with answered("NOT_FOUND", "there is no key"):
        await wire.call(keys.RevokeKeyRequest(id=key_id))


async def test_a_limited_key_sees_only_its_queues_jobs_of_a_batch(wire: Wire) -> None:
    await wire.enqueue("secret", idempotency_key="guessed")
    made = await make(wire, "produce", queues=["q"])
    opening = batch.OpenBatch(batch_id="b", queue_name="q", upload_id="u")
    rows = batch.JobChunk(payloads=[b"", b""], idempotency_keys=["mine", "guessed"])
    # By a key of all queues: another would not link the job of "secret".
    async with wire.conversation("EnqueueBatch") as upload:
        await upload.write(batch.EnqueueBatchRequest(open=opening))
        await upload.write(batch.EnqueueBatchRequest(chunk=rows))
        await upload.read()
        assert (await upload.read()).outcome.duplicates == 1
    request = batch.ListBatchJobsRequest(batch_id="b")
    for key, queues in ((made.secret, ["q"]), (KEY, ["secret", "q"])):
        async with wire.stream(request, "ListBatchJobs", key=key) as pages:
            assert [job.queue_name for job in (await pages.read()).jobs] == queues


async def test_a_limited_key_links_no_job_of_another_queue(wire: Wire) -> None:
    """Linked, it would see that job's errors, retry it and cancel it."""
    made = await make(wire, "produce", queues=["q"])
    theirs = await wire.enqueue("secret", idempotency_key="k1")
    await wire.enqueue("q", idempotency_key="k2")
    single = spooled.EnqueueRequest(queue_name="q", idempotency_key="k1")
    with answered("PERMISSION_DENIED", "a job in a queue that this API key may not touch"):
        await wire.call(single, key=made.secret)
    opening = batch.OpenBatch(batch_id="b", queue_name="q", upload_id="u")
    chunk = batch.JobChunk(payloads=[b""] * 3, idempotency_keys=["k1", "k2", "k3"])
    async with wire.conversation("EnqueueBatch", key=made.secret) as upload:
        await upload.write(batch.EnqueueBatchRequest(open=opening))
        await upload.read()
        await upload.write(batch.EnqueueBatchRequest(chunk=chunk))
        outcome = (await upload.read()).outcome
    assert [row.row for row in outcome.rejected] == [0]
    assert (outcome.created, outcome.duplicates, outcome.job_ids[0]) == (1, 1, "")
    # The key of all queues links it.
    assert (await wire.call(single)).job_id == theirs


async def test_wrong_keys_of_a_peer_are_counted(wire: Wire) -> None:
    wire.server._keys._limiter._per_minute = 20
    request = spooled.GetQueueStatsRequest(queue_name="q")
    await wire.call(request)
    for number in range(20):
        with answered("UNAUTHENTICATED"):
            await wire.call(request, key=f"sp_live_{number}")
    call = wire.open(method_named("GetQueueStats"), request, key="sp_live_21")
    with answered("RESOURCE_EXHAUSTED", "too many wrong API keys"):
        await call
    assert dict(await call.trailing_metadata())["retry-after"] == "3"
    # A key that is right is let in, whether it was seen from here before or not.
    await wire.call(request)
    await wire.call(request, key=OTHER_KEY)
    wire.clock.advance(3)
    with answered("UNAUTHENTICATED"):
        await wire.call(request, key="sp_live_22")
    with answered("RESOURCE_EXHAUSTED"):
        await wire.call(request, key="sp_live_23")
    # No key at all is no try.
    with answered("UNAUTHENTICATED", "no API key"):
        await wire.call(request, key=None)


async def test_calls_that_run_while_their_key_ends_are_answered_or_refused(wire: Wire) -> None:
    made = await make(wire)
    request = spooled.EnqueueRequest(queue_name="q")
    calls = [wire.call(request, key=made.secret) for _ in range(20)]
    calls.append(wire.call(keys.RevokeKeyRequest(id=made.key.id)))
    *outcomes, revoked = await asyncio.gather(*calls, return_exceptions=True)
    assert not isinstance(revoked, BaseException)
    done = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    stats = await wire.call(spooled.GetQueueStatsRequest(queue_name="q"))
    assert stats.total == len(done)
    for outcome in outcomes:
        assert outcome in done or outcome.code().name == "UNAUTHENTICATED"


async def test_keys_are_listed_a_page_at_a_time(wire: Wire) -> None:
    made = [await make(wire) for _ in range(5)]
    await make(wire, organization="acme")
    request, found = keys.ListKeysRequest(page_size=2), []
    while True:
        page = await wire.call(request)
        assert len(page.keys) <= 2
        found += [key.id for key in page.keys]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert sorted(found) == sorted(one.key.id for one in made)
    with answered("INVALID_ARGUMENT", "page_token 'x' is not one that this server gave out"):
        await wire.call(keys.ListKeysRequest(page_token="x"))


async def test_the_names_of_queues_in_keys_have_a_bound(wire: Wire) -> None:
    names = [f"{number:0100}" for number in range(1_000)]
    for _ in range(10):
        await make(wire, queues=names)
    with answered("RESOURCE_EXHAUSTED", "at most 1048576 fit"):
        await make(wire, queues=names)
    await make(wire)
    await make(wire, organization="acme", queues=names)
    listed = await wire.call(keys.ListKeysRequest(page_size=1_000))
    assert listed.ByteSize() < 2 << 20
