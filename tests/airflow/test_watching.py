"""However many triggers wait, they share a connection and a few streams, and each gets its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from spooled_pipelines import SpooledClient
from spooled_pipelines.airflow.handover.batch_refs import BatchRef
from spooled_pipelines.airflow.triggers import BatchTrigger, connection_pool, watch_hub
from spooled_pipelines.airflow.triggers.connection_pool import PooledClient, pooled_client
from tests.support.server_process import ServerProcess
from tests.support.waiting import aeventually

MANY = 60


@pytest.fixture
def batches(connected: ServerProcess, client: SpooledClient, queue: str) -> list[dict[str, Any]]:
    """Many batches of one job each, on one queue."""
    return [
        client.enqueue_batch([{"id": number}], queue, name=f"b{number}").to_dict()
        for number in range(MANY)
    ]


def settle(client: SpooledClient, queue: str, jobs: int) -> None:
    done = 0
    while done < jobs:
        for job in client.dequeue(queue, "hand", batch_size=min(100, jobs - done)):
            client.complete(job)
            done += 1


async def wait_for(batch: Any) -> dict[str, Any]:
    async for event in BatchTrigger(batch).run():
        payload: dict[str, Any] = event.payload
        return payload
    raise AssertionError("the trigger ended without an event")


@contextlib.asynccontextmanager
async def waiting(batches: list[Any]) -> AsyncIterator[list[asyncio.Task[Any]]]:
    tasks = [asyncio.create_task(wait_for(batch)) for batch in batches]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def connections() -> list[PooledClient]:
    """Those of this event loop that are in use."""
    made = connection_pool._clients.get(asyncio.get_running_loop(), {})
    return [future.result() for future in made.values() if future.done()]


def followed() -> list[str]:
    """The batches that are watched."""
    streams = [ids for one in connections() for ids in one.batches._streams.values()]
    return [batch_id for ids in streams for batch_id in ids]


async def test_all_triggers_share_one_client_and_a_handful_of_streams(
    batches: list[Any], client: SpooledClient, queue: str
) -> None:
    async with waiting([]) as _, contextlib.AsyncExitStack() as stack:
        tasks: list[asyncio.Task[Any]] = []
        # They do not all come at once.
        for start in range(0, MANY, 6):
            tasks += await stack.enter_async_context(waiting(batches[start : start + 6]))
            waited_for = len(tasks)
            await aeventually(lambda waited_for=waited_for: len(followed()) == waited_for)
        (connection,) = connections()
        assert connection.users == MANY
        assert len(connection.batches._streams) <= watch_hub._STREAMS_MAX
        assert sorted(followed()) == sorted(batch["batch_id"] for batch in batches)
        await asyncio.to_thread(settle, client, queue, MANY)
        events = await asyncio.wait_for(asyncio.gather(*tasks), 30)
        assert [event["stats"]["batch_id"] for event in events] == [
            batch["batch_id"] for batch in batches
        ]
        assert {event["status"] for event in events} == {"settled"}
    assert connections() == []


async def test_a_batch_that_is_not_there_is_no_trouble_for_the_others(
    batches: list[Any], client: SpooledClient, queue: str
) -> None:
    async with waiting([*batches[:5], {"batch_id": "b_nosuchbatch"}]) as tasks:
        event = await asyncio.wait_for(tasks[-1], 20)
        assert (event["status"], "b_nosuchbatch" in event["message"]) == ("fatal", True)
        assert not any(task.done() for task in tasks[:-1])
        await asyncio.to_thread(settle, client, queue, MANY)
        events = await asyncio.wait_for(asyncio.gather(*tasks[:-1]), 20)
        assert {event["status"] for event in events} == {"settled"}


async def test_streams_are_let_go_of_when_nobody_waits_for_their_batches(
    batches: list[dict[str, Any]],
) -> None:
    async with waiting(batches[:2]), waiting(batches[2:10]) as tasks:
        await aeventually(lambda: len(followed()) == 10)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(followed()) < 5
        assert {batch["batch_id"] for batch in batches[:2]} <= set(followed())


async def test_one_who_comes_later_learns_what_is_known_already(
    batches: list[Any], client: SpooledClient, queue: str
) -> None:
    async with waiting(batches[:1]) as first, waiting(batches[:1]) as second:
        await aeventually(lambda: bool(connections()) and bool(connections()[0].batches._newest))
        async with waiting(batches[:1]) as third:
            await asyncio.to_thread(settle, client, queue, MANY)
            events = await asyncio.wait_for(asyncio.gather(*first, *second, *third), 20)
    assert {event["status"] for event in events} == {"settled"}


async def test_several_batches_are_judged_together(
    batches: list[Any], client: SpooledClient, queue: str
) -> None:
    async with waiting([batches[:3]]) as (task,):
        await aeventually(
            lambda: bool(connections()) and len(connections()[0].batches._newest) == 3
        )
        await asyncio.to_thread(settle, client, queue, MANY)
        event = await asyncio.wait_for(task, 20)
    assert event["status"] == "settled"
    assert (event["stats"]["batch_id"], event["stats"]["total"]) == ("3 batches", 3)
    assert len(json.dumps(event)) < 1000


async def test_another_key_is_another_connection(
    batches: list[dict[str, Any]],
    server: ServerProcess,
    connect_airflow: Callable[..., None],
) -> None:
    async with pooled_client("spooled_default") as first:
        async with pooled_client("spooled_default") as same:
            assert same is first
        connect_airflow(server, extra={"timeout_seconds": 7})
        async with pooled_client("spooled_default") as other:
            assert other is not first
            assert other.client.settings.timeout_seconds == 7


@pytest.fixture
def milestones(connected: ServerProcess, client: SpooledClient, queue: str) -> str:
    return client.enqueue_batch([{"id": number} for number in range(40)], queue, name="m").id


async def test_a_batch_in_work_is_told_of_by_tenths(
    milestones: str, client: SpooledClient, queue: str
) -> None:
    told: list[int] = []
    async with pooled_client("spooled_default") as pooled:
        with pooled.watch_batches([BatchRef(milestones)]) as changes:
            told += [stats.completed for stats in await changes.next_updates(20)]
            for _ in range(40):
                (job,) = await asyncio.to_thread(client.dequeue, queue, "hand")
                await asyncio.to_thread(client.complete, job)
            while told[-1] < 40:
                told += [stats.completed for stats in await changes.next_updates(20)]
    # One for each tenth at most, and what was there at the beginning.
    assert len(told) <= 11
    assert told[0] == 0
