"""A renamed queue is the same queue: what it has moves along, and no row comes twice."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from spooled_pipelines import AsyncSpooledClient, connect
from spooled_pipelines.errors import ConflictError, SpooledError
from spooled_pipelines.types import QueueLimits
from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import keys_v1 as keys
from spooled_pipelines.wire import methods
from spooled_pipelines.wire import queue_admin_v1 as admin
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.postgres import empty_store
from tests.support.server_process import ServerProcess
from tests.support.waiting import aeventually
from tests.support.wire import KEY, Wire, answered, struct

TABLE = [{"id": number} for number in range(5)]


@pytest.fixture
async def client(wire: Wire) -> AsyncIterator[AsyncSpooledClient]:
    async with AsyncSpooledClient(wire.address, api_key=KEY) as client:
        yield client


async def rename(wire: Wire, before: str, after: str, **fields: Any) -> None:
    request = admin.RenameQueueRequest(queue_name=before, new_name=after, **fields)
    await wire.call(request, key=fields.pop("key", KEY))


@pytest.mark.parametrize("name", [None, "nightly"])
async def test_the_same_table_becomes_no_job_again_by_either_name(
    wire: Wire, client: AsyncSpooledClient, name: str | None
) -> None:
    sent = await client.enqueue_batch(TABLE, "before", key="id", name=name)
    content = await client.enqueue_batch([{"x": 1}, {"x": 1}], "before")
    await client.rename_queue("before", "after")
    for queue in ("after", "before"):
        # Whether a client knew the queue before or hears of it now.
        async with AsyncSpooledClient(wire.address, api_key=KEY) as fresh:
            for each in (client, fresh):
                again = await each.enqueue_batch(TABLE, queue, key="id", name=name)
                assert (again.id, again.created, again.duplicates) == (sent.id, 0, 5)
                again = await each.enqueue_batch([{"x": 1}, {"x": 1}], queue)
                assert (again.id, again.created) == (content.id, 0)
                plan = await each.plan_batch([*TABLE, {"id": 9}], queue, key="id", name=name)
                assert (plan.created, plan.duplicates) == (1, 5)
    stats = await client.batch(sent.id).stats()
    assert (stats.queue_name, stats.total) == ("after", 5)
    assert [queue.name for queue in await client.queues()] == ["after"]


async def test_a_batch_in_parts_goes_on_after_a_rename(
    wire: Wire, client: AsyncSpooledClient
) -> None:
    opened = await client.open_batch("parts", "before", key="id")
    await opened.add("1", TABLE[:2])
    await client.rename_queue("before", "after")
    await opened.add("2", TABLE[2:4])
    async with AsyncSpooledClient(wire.address, api_key=KEY) as other:
        elsewhere = await other.open_batch("parts", "after", key="id")
        assert elsewhere.id == opened.id
        from_dict = await other.open_batch(elsewhere.to_dict())
        assert (await from_dict.add("2", TABLE[2:4])).created == 0
        await from_dict.add("3", TABLE[4:])
        assert (await (await from_dict.seal(3)).stats()).total == 5


async def test_what_a_queue_has_moves_along_and_what_runs_settles(
    wire: Wire, client: AsyncSpooledClient
) -> None:
    await client.enqueue_batch(TABLE, "before", key="id")
    await client.set_queue_limits("before", max_in_flight=4)
    worker = spooled.RegisterWorkerRequest(queue_name="before", worker_id="w")
    await wire.call(worker, "Register")
    claim = batch.ClaimChunksRequest(queue_name="before", worker_id="w", max_jobs=2)
    (chunk,) = (await wire.call(claim)).chunks
    (retried,) = await client.dequeue("before", "w")
    await client.fail(retried, "HTTP 503")
    await client.pause_queue("before")
    await client.rename_queue("before", "after")
    (queue,) = await client.queues()
    assert (queue.name, queue.paused, queue.waiting) == ("after", True, 1)
    assert (queue.stats.processing, queue.stats.pending) == (2, 3)
    assert queue.limits == QueueLimits(max_in_flight=4)
    assert [each.queue_name for each in await client.workers("before")] == ["after"]
    # The worker knows the earlier name alone.
    renewal = batch.RenewChunkRequest(
        queue_name="before", worker_id="w", lease_id=chunk.lease_id, job_ids=chunk.job_ids
    )
    assert list((await wire.call(renewal)).lost) == []
    outcomes = batch.ChunkOutcomes(
        queue_name="before", worker_id="w", lease_id=chunk.lease_id, job_ids=chunk.job_ids
    )
    async with wire.conversation("Settle") as settle:
        await settle.write(batch.SettleRequest(chunks=[outcomes]))
        assert not (await settle.read()).chunks[0].exceptions
    await client.resume_queue("before")
    assert (await client.queue_stats("before")).completed == 2
    assert await wire.claim("before")


async def test_who_waits_by_either_name_is_woken(wire: Wire, client: AsyncSpooledClient) -> None:
    await wire.enqueue("before")
    await wire.claim("before")
    asked = spooled.StreamJobsRequest(queue_name="before", worker_id="old")
    async with wire.stream(asked, "StreamJobs") as old:
        await client.rename_queue("before", "after")
        first = await wire.enqueue("after")
        assert (await old.read()).id == first
    asked = spooled.StreamJobsRequest(queue_name="after", worker_id="new")
    async with wire.stream(asked, "StreamJobs") as new:
        second = await wire.enqueue("before", payload=struct(n=1))
        assert (await new.read()).id == second


async def test_a_name_that_another_queue_has_or_had_is_refused(
    wire: Wire, client: AsyncSpooledClient
) -> None:
    for queue in ("one", "two"):
        await wire.enqueue(queue)
    with answered("FAILED_PRECONDITION", "another queue has or had the name 'two'"):
        await rename(wire, "one", "two")
    with answered("NOT_FOUND", "there is no queue 'none'"):
        await rename(wire, "none", "three")
    await rename(wire, "one", "uno")
    with answered("FAILED_PRECONDITION", "'one'"):
        await rename(wire, "two", "one")
    # And there and back, and on, by whichever of its names.
    await rename(wire, "uno", "one")
    await rename(wire, "uno", "eins")
    assert [queue.name for queue in await client.queues()] == ["eins", "two"]
    for name in ("one", "uno", "eins"):
        assert (await client.queue_stats(name)).total == 1
        assert await client.key_name(name) == "one"


async def test_the_same_call_again_does_nothing_more_and_is_audited(wire: Wire) -> None:
    await wire.enqueue("a")
    await rename(wire, "a", "b", request_id="r")
    await rename(wire, "b", "c")
    await rename(wire, "a", "b", request_id="r")
    queues = (await wire.call(admin.ListQueuesRequest())).queues
    assert [queue.stats.queue_name for queue in queues] == ["c"]
    entries = (await wire.call(keys.ListAuditRequest())).entries
    assert [e.target for e in entries if e.action == "RenameQueue"][-1] == "a, b"


async def test_keys_that_are_limited_to_a_queue_reach_it_by_its_new_name(wire: Wire) -> None:
    await wire.enqueue("mine")
    made = await wire.call(keys.CreateKeyRequest(name="n", role="admin", queues=["mine"]))
    with answered("PERMISSION_DENIED", "may not touch a queue named 'other'"):
        await wire.call(
            admin.RenameQueueRequest(queue_name="mine", new_name="other"), key=made.secret
        )
    job_id = await wire.enqueue("mine", key=made.secret)
    async with wire.conversation("ProcessJobs", key=made.secret) as stream:
        await rename(wire, "mine", "other")
        for name in ("mine", "other"):
            listed = await wire.call(admin.ListQueuesRequest(queue_name=name), key=made.secret)
            assert [queue.stats.queue_name for queue in listed.queues] == ["other"]
        listed = await wire.call(admin.ListQueuesRequest(), key=made.secret)
        assert [queue.stats.queue_name for queue in listed.queues] == ["other"]
        # A stream from before, too.
        asked = spooled.DequeueRequest(queue_name="mine", worker_id="w", batch_size=1)
        await stream.write(spooled.ProcessRequest(dequeue=asked))
        assert (await stream.read()).job.queue_name == "other"
    found = await wire.call(spooled.GetJobRequest(job_id=job_id), key=made.secret)
    assert found.job.queue_name == "other"


async def test_rows_with_keys_of_another_name_are_refused(
    wire: Wire, client: AsyncSpooledClient
) -> None:
    # It asks before the rename, when no queue has the name.
    assert await client.key_name("after") == "after"
    await client.enqueue_batch(TABLE, "before", key="id")
    await rename(wire, "before", "after")
    with pytest.raises(ConflictError, match="was renamed: keys of its rows are made of 'before'"):
        await client.enqueue_batch(TABLE, "after", key="id")
    assert (await client.enqueue_batch(TABLE, "after", key="id")).created == 0


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
async def test_other_servers_of_the_database_hear_of_it(
    wire: Wire, client: AsyncSpooledClient, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    async with (
        Wire(tmp_path / "other", store=wire.settings.store) as other,
        AsyncSpooledClient(other.address, api_key=KEY) as elsewhere,
    ):
        await elsewhere.enqueue_batch(TABLE, "before", key="id")
        asked = spooled.StreamJobsRequest(queue_name="before", worker_id="old")
        async with other.stream(asked, "StreamJobs") as old:
            for _ in TABLE:
                await old.read()
            await client.rename_queue("before", "after")

            async def heard() -> bool:
                return bool(await elsewhere.queues("before"))

            await aeventually(heard)
            assert [queue.name for queue in await elsewhere.queues("before")] == ["after"]
            for queue in ("before", "after"):
                assert (await elsewhere.enqueue_batch(TABLE, queue, key="id")).created == 0
            job_id = await wire.enqueue("after")
            assert (await old.read()).id == job_id


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def test_a_server_that_is_killed_meanwhile_leaves_one_queue_by_both_names(
    tmp_path: Path, kind: str
) -> None:
    with empty_store(kind, tmp_path) as url, ServerProcess(tmp_path / "s.db") as server:
        if kind == "postgresql":
            server.stop()
            server.arguments = ("--store", url)
            server.start()
        with connect(server.address, api_key=server.api_key) as client:
            sent = client.enqueue_batch(TABLE, "a", key="id")
            killer = threading.Thread(target=server.kill)
            for turn in range(1_000):
                if turn == 20:
                    killer.start()
                try:
                    client.connection.unary(
                        methods.QUEUE_ADMIN["RenameQueue"],
                        admin.RenameQueueRequest(queue_name="a", new_name="ba"[turn % 2]),
                        repeatable=False,
                    )
                except SpooledError:
                    break
            killer.join()
        server.start()
        with connect(server.address, api_key=server.api_key) as client:
            (queue,) = client.queues()
            assert queue.name in "ab"
            for name in {queue.name, "a"}:
                again = client.enqueue_batch(TABLE, name, key="id")
                assert (again.id, again.created) == (sent.id, 0)
