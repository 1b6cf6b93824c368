"""An asset's watcher tells of each batch that is done, and of dead letters that grow, once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, AssetWatcher

from spooled_pipelines import SpooledClient
from spooled_pipelines.airflow.triggers import asset_events
from spooled_pipelines.airflow.triggers.asset_events import (
    BatchDoneTrigger,
    DeadLettersTrigger,
    SpooledEventTrigger,
)
from spooled_pipelines.airflow.triggers.connection_pool import pooled_client
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc.aio import paging
from tests.support.airflow_versions import DagSerialization
from tests.support.proxy import Proxy
from tests.support.server_process import ServerProcess
from tests.support.waiting import aeventually


class Memory:
    """What Airflow 3.3 gives a watcher to keep its state in; its database is not here."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.writes = 0

    async def aget(self, key: str, default: Any = None) -> Any:
        return json.loads(self.kept[key]) if key in self.kept else default

    async def aset(self, key: str, value: Any) -> None:
        self.kept[key] = json.dumps(value)
        self.writes += 1


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SPOOLED__QUEUE_POLL_SECONDS", "0.1")


@contextlib.asynccontextmanager
async def watching(
    trigger: SpooledEventTrigger, memory: Memory
) -> AsyncIterator[asyncio.Queue[dict[str, Any]]]:
    """What the trigger tells, once it has looked for the first time."""
    trigger.asset_state_store = memory  # type: ignore[assignment]
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def run() -> None:
        async for event in trigger.run():
            told.put_nowait(event.payload)

    writes = memory.writes
    running = asyncio.create_task(run())
    await aeventually(lambda: memory.writes > writes or running.done() or not told.empty())
    assert not running.done(), running.exception()
    try:
        yield told
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def quiet(told: asyncio.Queue[dict[str, Any]]) -> bool:
    """Nothing more comes within some looks."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(told.get(), 0.5)
        return False
    return True


def work(client: SpooledClient, queue: str, *, fail: bool = False) -> None:
    for job in client.dequeue(queue, "hand", batch_size=100):
        if fail:
            client.fail(job, "broken", retry=False)
        else:
            client.complete(job)


async def test_each_batch_that_is_done_is_told_once_over_restarts(
    connected: ServerProcess, client: SpooledClient, queue: str
) -> None:
    def enqueue(name: str) -> str:
        return client.enqueue_batch([{"id": 1}], queue, name=name).id

    await asyncio.to_thread(enqueue, "before")
    await asyncio.to_thread(work, client, queue)
    memory = Memory()
    async with watching(BatchDoneTrigger(queue), memory) as told:
        first = await asyncio.to_thread(enqueue, "first")
        await asyncio.to_thread(work, client, queue)
        event = await asyncio.wait_for(told.get(), 20)
        assert (event["batch_id"], event["completed"]) == (first, 1)
        assert await quiet(told)
    second = await asyncio.to_thread(enqueue, "second")
    await asyncio.to_thread(work, client, queue)
    async with watching(BatchDoneTrigger(queue), memory) as told:
        # It was settled while nobody looked.
        assert (await asyncio.wait_for(told.get(), 20))["batch_id"] == second
        assert await quiet(told)
        open_one = await asyncio.to_thread(enqueue, "open")
        assert await quiet(told)
    assert open_one not in str(memory.kept)


@pytest.mark.parametrize(("newest", "is_told"), [(4, False), (5, True)])
async def test_a_batch_is_told_while_it_is_among_so_many_newest(
    newest: int,
    is_told: bool,
    connected: ServerProcess,
    client: SpooledClient,
    queue: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def enqueue(name: str) -> str:
        return client.enqueue_batch([{"id": 1}], queue, name=name).id

    # Five batches are three pages.
    monkeypatch.setattr(paging, "PAGE_JOBS_MAX", 2)
    oldest = await asyncio.to_thread(enqueue, "oldest")
    for number in range(4):
        await asyncio.to_thread(enqueue, f"{number}")
    async with watching(BatchDoneTrigger(queue, newest), Memory()) as told:
        (job,) = await asyncio.to_thread(client.dequeue, queue, "hand")
        await asyncio.to_thread(client.complete, job)
        if is_told:
            assert (await asyncio.wait_for(told.get(), 20))["batch_id"] == oldest
        assert await quiet(told)


async def test_dead_letters_that_grow_are_told_and_those_before_are_not(
    connected: ServerProcess, client: SpooledClient, queue: str
) -> None:
    def bury(jobs: int) -> None:
        client.enqueue_batch([{"id": n} for n in range(jobs)], queue, name=f"{jobs}")
        work(client, queue, fail=True)

    await asyncio.to_thread(bury, 3)
    memory = Memory()
    async with watching(DeadLettersTrigger(queue, at_least=2), memory) as told:
        await asyncio.to_thread(bury, 1)
        assert await quiet(told)
        await asyncio.to_thread(bury, 4)
        event = await asyncio.wait_for(told.get(), 20)
        # They die one after the other, and it may look in between.
        assert event["new"] >= 2
        assert event == {
            "queue_name": queue,
            "dead_letters": 3 + event["new"],
            "new": event["new"],
        }
    await asyncio.to_thread(bury, 2)
    async with watching(DeadLettersTrigger(queue, at_least=2), memory) as told:
        event = await asyncio.wait_for(told.get(), 20)
        assert event["dead_letters"] == 10
        assert event["new"] >= 2
        assert await asyncio.to_thread(client.retry_dead_letters, queue) == 10
        assert await quiet(told)


@pytest.mark.parametrize(
    "trigger", [BatchDoneTrigger("q", 10, "spooled_eu"), DeadLettersTrigger("q", 5)]
)
def test_a_watcher_is_stored_with_its_dag(trigger: Any) -> None:
    path, arguments = trigger.serialize()
    again = type(trigger)(**json.loads(json.dumps(arguments)))
    assert again.serialize() == (path, arguments)
    asset = Asset("done", watchers=[AssetWatcher(name="w", trigger=trigger)])
    with DAG("d", schedule=[asset]) as dag:
        pass
    stored = json.dumps(DagSerialization.to_dict(dag))
    assert type(trigger).__name__ in stored


@pytest.mark.parametrize("newest", [0, 10_001])
def test_numbers_that_make_no_sense_are_refused(newest: int) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"newest must be .*{newest}"):
        BatchDoneTrigger("q", newest)
    with pytest.raises(InvalidArgumentError, match="at_least must be"):
        DeadLettersTrigger("q", 0)


@pytest.mark.parametrize("made", [BatchDoneTrigger, DeadLettersTrigger])
async def test_a_connection_that_is_mended_meanwhile_is_taken(
    made: Callable[[str], SpooledEventTrigger],
    connected: ServerProcess,
    client: SpooledClient,
    connect_airflow: Callable[..., None],
    queue: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asset_events, "READ_AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(asset_events, "_FIRST_PAUSE_SECONDS", 0.001)
    async with contextlib.AsyncExitStack() as stack:
        with Proxy(connected.address) as former:
            host, _, port = former.address.rpartition(":")
            connect_airflow(None, host=host, port=int(port), password=connected.api_key)
            told = await stack.enter_async_context(watching(made(queue), Memory()))
        connect_airflow(connected)
        client.enqueue_batch([{"id": 1}], queue)
        work(client, queue, fail=True)
        assert (await asyncio.wait_for(told.get(), 60))["queue_name"] == queue


@pytest.mark.parametrize("made", [BatchDoneTrigger, DeadLettersTrigger])
async def test_a_broken_connection_is_logged_once_and_tried_again(
    made: Callable[[str], SpooledEventTrigger],
    connect_airflow: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asset_events, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(asset_events, "_LAST_PAUSE_SECONDS", 0.002)
    tried: list[str] = []

    def connect(conn_id: str) -> Any:
        tried.append(conn_id)
        return pooled_client(conn_id)

    monkeypatch.setattr(asset_events, "pooled_client", connect)
    connect_airflow(host="localhost")
    said: list[str] = []
    trigger = made("orders")
    trigger._log = SimpleNamespace(error=lambda text, *values: said.append(text % values))
    watching = asyncio.ensure_future(trigger.run().__anext__())
    await aeventually(lambda: len(tried) >= 5 or watching.done())
    watching.cancel()
    (line,) = said
    assert "'spooled_default' has no password" in line
