"""The client's door to batches, and how it finds out what the server speaks."""

from typing import Any, cast

import pandas as pd
import pytest

from spooled_pipelines import AsyncSpooledClient, errors
from spooled_pipelines.rpc.settings import ConnectionSettings
from tests.support.types import OpenClient, StartServer

TABLE = pd.DataFrame({"n": [1, 2, 3], "name": ["a", "b", "c"]})


async def settle_all(client: AsyncSpooledClient, queue: str) -> None:
    for job in await client.dequeue(queue, "worker-1", batch_size=10):
        await client.complete(job, result={"doubled": job.payload["n"] * 2})


@pytest.mark.parametrize("kind", ["server", "plain_server"])
async def test_a_table_becomes_jobs_and_results(
    open_client: OpenClient, request: pytest.FixtureRequest, queue: str, kind: str
) -> None:
    client = open_client(request.getfixturevalue(kind))
    batch = await client.enqueue_batch(TABLE, queue, key="n", name=f"run of {queue}")
    assert (batch.rows, batch.created, batch.duplicates) == (3, 3, 0)
    again = await client.enqueue_batch(TABLE, queue, key="n", name=f"run of {queue}")
    assert (again.id, again.created, again.duplicates) == (batch.id, 0, 3)
    await settle_all(client, queue)
    stats = await batch.wait(timeout=20)
    assert (stats.completed, stats.settled) == (3, True)
    assert sorted((await batch.results()).column("doubled").to_pylist()) == [2, 4, 6]


async def test_a_batch_is_found_again_by_what_was_kept_of_it(
    any_client: AsyncSpooledClient, queue: str
) -> None:
    batch = await any_client.enqueue_batch(TABLE, queue, key="n")
    for kept in (batch.id, batch.to_dict()):
        found = any_client.batch(kept)
        assert found.id == batch.id
        assert (await found.stats()).total == 3


@pytest.mark.parametrize("kind", ["server", "plain_server"])
async def test_several_batches_are_asked_for_at_once_in_their_order(
    open_client: OpenClient, request: pytest.FixtureRequest, queue: str, kind: str
) -> None:
    client = open_client(request.getfixturevalue(kind))
    assert (await client.batch_backend()).keeps_batches is (kind == "server")
    made = [
        (await client.enqueue_batch(TABLE[:rows], f"{queue}-{rows}", key="n")).to_dict()
        for rows in (1, 2, 3)
    ]
    found = await client.batch_stats(made)
    assert [stats.batch_id for stats in found] == [batch["batch_id"] for batch in made]
    assert [stats.total for stats in found] == [1, 2, 3]


async def test_several_batches_are_watched_over_one_stream(
    async_client: AsyncSpooledClient, queue: str
) -> None:
    ids = [(await async_client.enqueue_batch(TABLE, queue, key="n", name=name)).id for name in "ab"]
    settled = set()
    for _ in range(2):
        await settle_all(async_client, queue)
    async for stats in async_client.watch_batches(ids):
        if stats.settled:
            settled.add(stats.batch_id)
        if len(settled) == 2:
            break
    assert settled == set(ids)


async def test_what_is_no_batch_is_refused(any_client: AsyncSpooledClient) -> None:
    with pytest.raises(errors.InvalidArgumentError):
        any_client.batch(cast("Any", 7))


@pytest.mark.parametrize(
    ("kind", "said", "speaks"),
    [
        ("server", "auto", True),
        ("plain_server", "auto", False),
        ("server", "off", False),
        ("plain_server", "on", True),
    ],
)
async def test_the_batch_extension_is_discovered_unless_it_is_said(
    open_client: OpenClient, request: pytest.FixtureRequest, kind: str, said: Any, speaks: bool
) -> None:
    server = request.getfixturevalue(kind)
    settings = ConnectionSettings(server.address, api_key=server.api_key, batch_extension=said)
    client = open_client(address=settings)
    for _ in range(2):
        assert (await client.batch_backend()).keeps_batches is speaks


async def test_it_is_asked_once_per_client(
    open_client: OpenClient, start_server: StartServer
) -> None:
    server = start_server()
    client = open_client(server)
    assert (await client.batch_backend()).keeps_batches
    server.kill()
    assert (await client.batch_backend()).keeps_batches


async def test_a_server_that_cannot_be_asked_is_an_error_and_not_a_no(
    open_client: OpenClient,
) -> None:
    client = open_client(address="localhost:1", api_key="k", timeout_seconds=0.3)
    with pytest.raises(errors.UnavailableError):
        await client.batch_backend()


async def test_batches_are_listed_newest_first_and_jobs_found_in_one(
    start_server: StartServer, open_client: OpenClient
) -> None:
    client = open_client(start_server())
    assert await client.batches() == []
    for queue in ("a", "b", "a"):
        batch = await client.enqueue_batch(TABLE, queue, key="n", name=str(len(queue)) + queue)
    other = await client.enqueue_batch(TABLE, "a", key="n", name="newest")
    found = await client.batches()
    assert found[0].batch_id == other.id
    assert len(found) == 3
    assert [stats.total for stats in found] == [3, 3, 3]
    assert {stats.queue_name for stats in await client.batches("a")} == {"a"}
    assert len(await client.batches(limit=1)) == 1
    assert batch.id in {stats.batch_id for stats in found}

    for number, job in enumerate(await client.dequeue("b", "w", batch_size=3)):
        await client.fail(job, f"HTTP 50{number}", retry=number == 0)
    (failed,) = [stats for stats in found if stats.queue_name == "b"]
    of_b = client.batch(failed.batch_id)
    assert len(await of_b.find_jobs()) == 3
    assert [job.last_error for job in await of_b.find_jobs("HTTP 502")] == ["HTTP 502"]
    dead = await of_b.find_jobs(statuses=["deadletter"])
    assert sorted(str(job.last_error) for job in dead) == ["HTTP 501", "HTTP 502"]
    assert len(await of_b.find_jobs("HTTP", limit=2)) == 2
    assert [job.id for job in await of_b.find_jobs(dead[0].id)] == [dead[0].id]


async def test_a_status_that_there_is_not_is_named(
    any_client: AsyncSpooledClient, queue: str
) -> None:
    batch = await any_client.enqueue_batch(TABLE, queue, key="n")
    with pytest.raises(errors.InvalidArgumentError, match="got 'dead'"):
        await batch.find_jobs(statuses=["dead"])
